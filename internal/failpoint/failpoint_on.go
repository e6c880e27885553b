//go:build failpoints

// Package failpoint names the places where a test may break the program on
// purpose. This build has them switched on.
package failpoint

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// actions is what KONSUL_FAILPOINTS says, by name; read once.
var actions = sync.OnceValue(func() map[string]string {
	m := make(map[string]string)
	for _, part := range strings.Split(os.Getenv("KONSUL_FAILPOINTS"), ";") {
		if name, action, ok := strings.Cut(strings.TrimSpace(part), "="); ok {
			m[name] = action
		}
	}
	return m
})

// Hit does what the environment says for name: "kill" ends the process as
// kill -9 would, "sleep(D)" waits for the duration D.
func Hit(name string) {
	action := actions()[name]
	switch {
	case action == "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal may arrive a moment later
	case strings.HasPrefix(action, "sleep("):
		d, err := time.ParseDuration(strings.TrimSuffix(strings.TrimPrefix(action, "sleep("), ")"))
		if err != nil {
			panic(fmt.Sprintf("failpoint %s: %v", name, err))
		}
		time.Sleep(d)
	}
}

// On says whether the environment switched name on.
func On(name string) bool { return actions()[name] == "on" }
