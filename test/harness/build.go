package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// Variant is one way to build the program.
type Variant string

// The ways to build it.
const (
	Plain      Variant = ""           // as `make build` does (or with -race if KONSUL_TEST_RACE=1)
	Race       Variant = "race"       // with the race detector
	Failpoints Variant = "failpoints" // with -tags failpoints
)

// builds holds one binary per variant for the whole test run.
var builds struct {
	sync.Mutex
	dir   string
	paths map[Variant]string
	errs  map[Variant]error
}

// Binary returns the path of the program, built once per test run and variant.
// KONSUL_TEST_BINARY names a ready one to use for Plain instead.
func Binary(t testing.TB, v Variant) string {
	t.Helper()
	if v == Plain {
		if path := os.Getenv("KONSUL_TEST_BINARY"); path != "" {
			return path
		}
		if os.Getenv("KONSUL_TEST_RACE") == "1" {
			v = Race
		}
	}
	builds.Lock()
	defer builds.Unlock()
	if builds.paths == nil {
		builds.paths, builds.errs = map[Variant]string{}, map[Variant]error{}
	}
	if _, tried := builds.paths[v]; !tried {
		builds.paths[v], builds.errs[v] = build(v)
	}
	if err := builds.errs[v]; err != nil {
		t.Fatal(err)
	}
	return builds.paths[v]
}

func build(v Variant) (string, error) {
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "konsul-test-bin-")
		if err != nil {
			return "", err
		}
		builds.dir = dir
	}
	out := filepath.Join(builds.dir, "konsul")
	tags := "hashicorpmetrics" // as in the Makefile
	var race []string
	switch v {
	case Race:
		out, race = out+"-race", []string{"-race"}
	case Failpoints:
		out, tags = out+"-failpoints", tags+",failpoints"
	}
	args := append([]string{"build", "-o", out, "-tags", tags}, race...)
	cmd := exec.Command("go", append(args, "./cmd/konsul")...)
	cmd.Dir = Root()
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building konsul %s: %w\n%s", v, err, text)
	}
	return out, nil
}

// Root is the top directory of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Main runs a suite and removes what it built; call it from TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir)
	}
	return code
}
