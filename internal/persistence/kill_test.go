package persistence

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// childDir names, in the environment of a child process, the directory it works in.
const childDir = "KONSUL_TEST_CHILD_DIR"

// child starts this test binary again, to run one test in a process that can die.
func child(t *testing.T, test, dir string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.count=1")
	cmd.Env = append(append(os.Environ(), childDir+"="+dir), env...)
	return cmd
}

// fixedLog is a log that parent and child agree on.
func fixedLog(seed uint64, n int) []entry {
	r := rand.New(rand.NewPCG(seed, 3))
	log := make([]entry, n)
	for i := range log {
		log[i] = randomEntry(r, 4000)
	}
	return log
}

const (
	killLogLen = 20_000
	killBatch  = 16
)

var killOptions = Options{Badger: small, History: History{MinAge: 1, MinIndexes: 500, MaxIndexes: 2000}}

// TestChildApplies is what the child does: apply the log, make it durable now and
// then, say so, until it is killed.
func TestChildApplies(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		return // not a child
	}
	o := killOptions
	o.Dir = dir
	db := openTest(t, o)
	log := fixedLog(1, killLogLen)
	for first := uint64(1); first <= killLogLen; first += killBatch {
		u := db.NewUpdate(first)
		for i := first; i < first+killBatch; i++ {
			log[i-1].run(u.At(i))
		}
		last := first + killBatch - 1
		if _, err := u.Commit(last); err != nil {
			t.Fatal(err)
		}
		if last%(20*killBatch) == 0 {
			if err := db.MakeDurable(context.Background(), last); err != nil {
				t.Fatal(err)
			}
			db.AdvanceFloor(last)
			fmt.Printf("durable %d\n", last)
		}
	}
}

// startApplying runs TestChildApplies in dir until it has said a few times that it
// is durable; it returns the running child and a function that, once the child is
// dead, tells the last durable index it spoke of.
func startApplying(t *testing.T, dir string, rounds int, env ...string) (cmd *exec.Cmd, lastDurable func() uint64) {
	t.Helper()
	cmd = child(t, "TestChildApplies", dir, env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var last uint64
	next := func() bool {
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "durable "); ok {
				last, _ = strconv.ParseUint(n, 10, 64)
				return true
			}
		}
		return false
	}
	for range rounds {
		if !next() {
			t.Fatal("the child ended early")
		}
	}
	return cmd, func() uint64 {
		for next() {
		}
		_ = cmd.Wait() // it was killed
		return last
	}
}

// judge opens what a dead child left and compares it with the model: what was
// durable is there; the rest comes back by replaying the log.
func judge(t *testing.T, dir string, durable uint64) {
	t.Helper()
	o := killOptions
	o.Dir = dir
	log := fixedLog(1, killLogLen)
	m := &machine{t: t, r: rand.New(rand.NewPCG(1, 1)), o: o, model: newModel(), log: log}
	m.open()
	got := m.db.DurableIndex()
	if got < durable {
		t.Fatalf("durable index is %d, the child had said %d", got, durable)
	}
	ahead := m.db.MaxVersion()
	end := min(max(ahead, got)+300, killLogLen)
	for i := range end {
		m.model.apply(i+1, log[i])
	}
	m.check(got)
	m.applied = got
	m.db.SetCounts(m.model.counts(got))
	m.counted = true
	m.applyTo(end)
	m.check(end)
	for range 5 {
		m.check(m.db.Floor() + m.r.Uint64N(end-m.db.Floor()+1))
	}
	m.close()
}

// TestKilledWhileApplying: kill -9 at any moment loses nothing that a replay from
// the durable index does not bring back.
func TestKilledWhileApplying(t *testing.T) {
	for round := range 4 {
		dir := t.TempDir()
		cmd, lastDurable := startApplying(t, dir, 1+round)
		<-time.After(time.Duration(rand.IntN(60)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		judge(t, dir, lastDurable())
	}
}
