package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/neogan74/konsul/bench/etcdload"
	"github.com/neogan74/konsul/internal/loadgen"
)

type etcd struct {
	processes
	about       string
	addresses   []string
	leader      string
	connections int
}

func startEtcd(ctx context.Context, cfg *config, dir string) (system, error) {
	e := &etcd{about: output("etcd", "--version"), connections: cfg.etcdConnections}
	var initial []string
	for i := range members {
		e.addresses = append(e.addresses, fmt.Sprintf("127.9.2.%d:2379", i+1))
		initial = append(initial, fmt.Sprintf("m%d=http://127.9.2.%d:2380", i+1, i+1))
	}
	for i, address := range e.addresses {
		peer := fmt.Sprintf("http://127.9.2.%d:2380", i+1)
		// Everything but the addresses is etcd's default (it fsyncs before it acknowledges),
		// except room for the history of a long run.
		err := e.add(filepath.Join(dir, fmt.Sprint(i+1)), nil, "etcd", "--name", fmt.Sprintf("m%d", i+1), "--data-dir", filepath.Join(dir, fmt.Sprint(i+1), "data"),
			"--listen-client-urls", "http://"+address, "--advertise-client-urls", "http://"+address,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(initial, ","), "--quota-backend-bytes", "8589934592", "--log-level", "error", "--logger", "zap")
		if err != nil {
			e.stop()
			return nil, err
		}
	}
	if err := e.ready(ctx, func() error { return e.find(ctx) }); err != nil {
		e.stop()
		return nil, fmt.Errorf("starting etcd: %w", err)
	}
	return e, nil
}

// find asks each member for its state over etcd's JSON gateway.
func (e *etcd) find(ctx context.Context) error {
	for _, a := range e.addresses {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+a+"/v3/maintenance/status", strings.NewReader("{}"))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var s struct {
			Header struct {
				Member string `json:"member_id"`
			} `json:"header"`
			Leader string `json:"leader"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
			return err
		}
		if s.Leader == "" || s.Leader == "0" {
			return fmt.Errorf("%s: no leader", a)
		}
		if s.Leader == s.Header.Member {
			e.leader = a
		}
	}
	if e.leader == "" {
		return fmt.Errorf("no member leads")
	}
	return nil
}

func (e *etcd) name() string    { return "etcd" }
func (e *etcd) version() string { return e.about }

func (e *etcd) target(one, stale bool) loadgen.Target {
	t := &etcdload.Target{Addresses: e.addresses, Prefix: "bench/", Stale: stale, Connections: e.connections}
	if one {
		t.Addresses = []string{e.leader}
	}
	return t
}

func (e *etcd) turn(n int) { e.addresses = turned(e.addresses, e.leader, n) }
