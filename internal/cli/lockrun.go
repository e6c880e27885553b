package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/neogan74/konsul/client"
)

// drain is how long the output of processes that a command left behind is passed on
// when it goes through this program; to files and terminals it does not.
const drain = time.Second

// lockRun is one command under a lock.
type lockRun struct {
	flags   *lockFlags
	lock    *client.Lock
	signals <-chan os.Signal
	stop    <-chan struct{} // this program is to end
	stderr  io.Writer
	what    string
	lost    error
}

// run starts the command and follows it to its end. The status is the command's; the
// error is that it could not be started.
func (r *lockRun) run(cmd *exec.Cmd) (int, error) {
	restore := inGroup(cmd)
	defer restore()
	cmd.WaitDelay = drain
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		// The signal at this program's death is tied to the thread that started the command.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState has it
		}
	}()
	if err := <-started; err != nil {
		<-ended
		return 0, &ExitError{Code: exitCannotRun, Err: fmt.Errorf("%s: running %s: %w", r.what, readable([]byte(cmd.Path)), err)}
	}
	r.follow(cmd.Process, ended)
	return exitStatus(cmd.ProcessState), nil
}

// follow passes signals on until the command has ended, and ends it when the lock is lost.
func (r *lockRun) follow(p *os.Process, ended <-chan struct{}) {
	lost, stop := r.lock.Lost(), r.stop
	var kill <-chan time.Time
	for {
		select {
		case <-ended:
			if r.lost != nil {
				killGroup(p) // what the command has left behind must not go on either
			}
			return
		case s := <-r.signals:
			signalGroup(p, s)
		case <-stop:
			stop = nil
			terminateGroup(p)
		case <-lost:
			lost, r.lost = nil, r.lock.Err()
			fmt.Fprintf(r.stderr, "konsul: %s: %s; stopping the command\n", r.what, oneLine(r.lost.Error()))
			terminateGroup(p)
			timer := time.NewTimer(r.flags.killAfter)
			defer timer.Stop()
			kill = timer.C
		case <-kill:
			killGroup(p)
		}
	}
}

// unlock releases the lock; the error is that it was lost while the command ran.
func (r *lockRun) unlock(ctx context.Context) error {
	err := r.flags.release(ctx, r.lock)
	switch {
	case r.lost != nil:
		return r.lost
	case errors.Is(err, client.ErrLockLost):
		return err
	case err != nil:
		fmt.Fprintf(r.stderr, "konsul: %s: %s; it is free in %v at the latest\n", r.what, Reason(err), r.flags.ttl+r.flags.delay)
	}
	return nil
}
