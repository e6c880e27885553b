package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/neogan74/konsul/internal/loadgen"
	"github.com/neogan74/konsul/test/harness"
)

type konsul struct {
	processes
	about     string
	addresses []string
	leader    string
}

func startKonsul(ctx context.Context, cfg *config, dir string) (system, error) {
	binary, err := filepath.Abs(cfg.binary)
	if err != nil {
		return nil, err
	}
	k := &konsul{about: output(binary, "version")}
	var hosts []string
	for i := range members {
		hosts = append(hosts, fmt.Sprintf("127.9.1.%d", i+1))
		k.addresses = append(k.addresses, "http://"+hosts[i]+":8500")
	}
	for i, host := range hosts {
		env := []string{"KONSUL_HOST=" + host, "KONSUL_RAFT_BIND_ADDR=" + host + ":7000",
			"KONSUL_JOIN=" + strings.Join(hosts, ":8500,") + ":8500", fmt.Sprint("KONSUL_BOOTSTRAP_EXPECT=", members), "KONSUL_SYNC_WRITES=true"}
		if err := k.add(filepath.Join(dir, fmt.Sprint(i+1)), env, binary, "agent"); err != nil {
			k.stop()
			return nil, err
		}
	}
	if err := k.ready(ctx, func() error { return k.find(ctx) }); err != nil {
		k.stop()
		return nil, fmt.Errorf("starting konsul: %w", err)
	}
	return k, nil
}

// find waits for every node to be ready and notes who leads.
func (k *konsul) find(ctx context.Context) error {
	for _, a := range k.addresses {
		c := harness.NewClient(strings.TrimPrefix(a, "http://"))
		defer c.CloseIdle()
		answer, err := c.Get(ctx, "/health/ready")
		if err == nil {
			err = answer.Want(http.StatusOK)
		}
		if err == nil {
			answer, err = c.Get(ctx, "/cluster/leader")
		}
		var leader struct {
			API string `json:"api_address"`
		}
		if err == nil {
			err = answer.JSON(&leader)
		}
		if err != nil {
			return err
		}
		if leader.API == "" {
			return errors.New("no leader")
		}
		k.leader = "http://" + strings.TrimPrefix(leader.API, "http://")
	}
	return nil
}

func (k *konsul) name() string    { return "konsul" }
func (k *konsul) version() string { return k.about }

func (k *konsul) target(one, stale bool) loadgen.Target {
	t := &loadgen.HTTPTarget{Addresses: k.addresses, Prefix: "bench/", Stale: stale}
	if one {
		t.Addresses = []string{k.leader}
	}
	return t
}

func (k *konsul) turn(n int) { k.addresses = turned(k.addresses, k.leader, n) }

// output is the first line a program prints.
func output(argv ...string) string {
	b, _ := exec.Command(argv[0], argv[1:]...).CombinedOutput() // only for people
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}
