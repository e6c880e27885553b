package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

// The exit statuses of `konsul lock` that are not the command's own.
const (
	exitLockLost   = 125
	exitCannotRun  = 126 // as shells have it
	exitNoCommand  = 127 // as shells have it
	exitBySignal   = 128 // plus its number, as shells have it
	defaultDelay   = 15 * time.Second
	defaultKill    = 5 * time.Second
	lockSession    = "konsul-lock"
	envLockKey     = "KONSUL_LOCK_KEY"
	envLockIndex   = "KONSUL_LOCK_INDEX"
	envLockSession = "KONSUL_LOCK_SESSION"
)

// lockFlags are the flags of `konsul lock`.
type lockFlags struct {
	kvFlags
	ttl, wait, delay, killAfter time.Duration
	value                       string
	key                         string
}

func lockCommand() *cobra.Command {
	f := &lockFlags{}
	cmd := &cobra.Command{
		Use:   "lock KEY [flags] -- COMMAND...",
		Short: "Run a command while a lock is held",
		Long: "Wait until nobody holds the lock KEY, run COMMAND while this program holds it, and\n" +
			"release it when COMMAND has ended. COMMAND finds in its environment\n\n" +
			"  " + envLockKey + "      the key\n" +
			"  " + envLockIndex + "    the fencing token: larger for each holder than for all before\n" +
			"  " + envLockSession + "  the session that holds it\n\n" +
			"SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to COMMAND and what\n" +
			"it started (its process group). If the lock is lost, because it was taken away or could\n" +
			"not be renewed within --ttl, COMMAND gets SIGTERM, and after --kill-after SIGKILL. If this\n" +
			"program is killed, COMMAND is killed as well (on Linux), and the lock is free when --ttl\n" +
			"and --lock-delay have passed. --lock-delay should not be shorter than --kill-after.\n\n" +
			"The exit status is that of COMMAND (128 and the number if a signal ended it), or\n\n" +
			"  1    COMMAND was not run: the lock was not free within --wait, no node could be reached\n" +
			"  2    wrong usage\n" +
			"  125  the lock was lost while COMMAND ran\n" +
			"  126  COMMAND cannot be run\n" +
			"  127  there is no COMMAND of this name",
		Example: "  konsul lock jobs/cleanup -- ./cleanup.sh\n" +
			"  konsul lock jobs/cleanup --wait 0s -- ./cleanup.sh         # or fail at once\n" +
			"  konsul lock leader/api --ttl 10s -- ./serve --as-leader    # leader election: run it on every machine",
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case len(args) == 0:
				return usage(cmd, "an argument is missing: %s", cmd.UseLine())
			case args[0] == "":
				return usage(cmd, "the key is empty")
			case dash != 1 || len(args) < 2:
				return usage(cmd, "the command comes after --, as in: %s KEY -- COMMAND", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: completeKeys(&f.kvFlags),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.lock(cmd, args[0], args[1:])
		},
	}
	f.register(cmd, defaultTimeout)
	flags := cmd.Flags()
	flags.DurationVar(&f.ttl, "ttl", client.DefaultLockTTL, "how long the lock outlives a holder that died")
	flags.DurationVar(&f.wait, "wait", 0, "how long to wait for the lock; 0s = not at all (default: until it is free)")
	flags.DurationVar(&f.delay, "lock-delay", 0, "how long it stays free after its holder was lost (default 15s, or --kill-after if that is longer)")
	flags.DurationVar(&f.killAfter, "kill-after", defaultKill, "how long COMMAND may take to end when the lock is lost")
	flags.StringVar(&f.value, "value", "", "written to the key, for people (default: host name and process id)")
	flags.BoolVar(&f.json, "json", false, "report errors as JSON; the output is COMMAND's")
	return cmd
}

func (f *lockFlags) lock(cmd *cobra.Command, key string, argv []string) error {
	what := "lock " + readable([]byte(key))
	if err := f.complete(cmd); err != nil {
		return err
	}
	c, err := f.client(cmd)
	if err != nil {
		return err
	}
	path, err := findCommand(argv[0])
	if err != nil {
		return err
	}
	f.key = key
	// From here on signals are this program's to handle: nothing is left behind.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	lock, err := f.acquire(cmd, c, signals)
	if err != nil {
		return explainLock(what, key, err)
	}
	r := &lockRun{flags: f, lock: lock, signals: signals, stop: cmd.Context().Done(), stderr: cmd.ErrOrStderr(), what: what}
	status, err := r.run(&exec.Cmd{Path: path, Args: argv, Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(),
		Env: append(os.Environ(), envLockKey+"="+key, envLockIndex+"="+number(lock.Index), envLockSession+"="+lock.Session)})
	lost := r.unlock(cmd.Context())
	switch {
	case lost != nil:
		return &ExitError{Code: exitLockLost, Err: fmt.Errorf("%s: %w; the command was stopped", what, lost)}
	case err != nil:
		return err
	case status != 0:
		return &ExitError{Code: status}
	}
	return nil
}

// explainLock is explain for somebody who is waiting for a lock already.
func explainLock(what, key string, err error) error {
	if client.IsLockHeld(err) {
		text := fmt.Sprintf("%s: %s; wait longer (--wait), or see who it is with `konsul kv get %s`", what, Reason(err), readable([]byte(key)))
		return &ExitError{Code: exitFailed, Err: &explained{text: text, cause: err}}
	}
	return explain(what, err)
}

func (f *lockFlags) complete(cmd *cobra.Command) error {
	switch {
	case f.ttl <= 0:
		return usage(cmd, "--ttl %v: it must be more than 0", f.ttl)
	case f.wait < 0 || f.delay < 0 || f.killAfter < 0:
		return usage(cmd, "--wait, --lock-delay and --kill-after must not be negative")
	}
	if !cmd.Flags().Changed("lock-delay") {
		f.delay = max(defaultDelay, f.killAfter)
	}
	if !cmd.Flags().Changed("wait") {
		f.wait = -1
	}
	if !cmd.Flags().Changed("value") {
		host, _ := os.Hostname() // nothing depends on it
		f.value = host + " " + strconv.Itoa(os.Getpid())
	}
	return nil
}

// findCommand looks for the command before the lock is taken.
func findCommand(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, os.ErrPermission):
		return "", &ExitError{Code: exitCannotRun, Err: fmt.Errorf("%s cannot be run: %w", readable([]byte(name)), err)}
	}
	return "", &ExitError{Code: exitNoCommand, Err: fmt.Errorf("there is no command %s: %w", readable([]byte(name)), err)}
}

// acquire waits for the lock as long as --wait allows and no signal ends it.
func (f *lockFlags) acquire(cmd *cobra.Command, c *client.Client, signals <-chan os.Signal) (*client.Lock, error) {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	if f.wait > 0 {
		timed, stop := context.WithTimeout(ctx, f.wait)
		defer stop()
		ctx = timed
	}
	watched := make(chan struct{})
	waiting, acquired := context.WithCancel(context.Background())
	go func() {
		defer close(watched)
		for {
			select {
			case s := <-signals:
				if ends(s) {
					cancel(&ExitError{Code: exitBySignal + signalNumber(s), Err: fmt.Errorf("lock %s: %v while waiting", readable([]byte(f.key)), s)})
					return
				}
			case <-waiting.Done():
				return
			}
		}
	}()
	o := client.LockOptions{Value: []byte(f.value), TTL: f.ttl, LockDelay: f.delay, Name: lockSession, NoWait: f.wait == 0,
		OnTrouble: troubleReporter(cmd.ErrOrStderr(), "", "trying again")}
	if f.delay == 0 {
		o.LockDelay = -1
	}
	if isTerminal(cmd.ErrOrStderr()) {
		o.OnWait = func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "konsul: %s; waiting\n", Reason(err)) }
	}
	lock, err := c.Lock(ctx, f.key, o)
	acquired()
	<-watched
	var bySignal *ExitError
	if !errors.As(context.Cause(ctx), &bySignal) {
		return lock, err
	}
	if lock != nil { // the signal came at the same moment
		_ = f.release(cmd.Context(), lock)
	}
	return nil, bySignal
}

// release gives the lock back, also if ctx has ended.
func (f *lockFlags) release(ctx context.Context, lock *client.Lock) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.timeout)
	defer cancel()
	return lock.Unlock(ctx)
}
