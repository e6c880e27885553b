package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

func exportCommand() *cobra.Command {
	f := &kvFlags{}
	var o client.ExportOptions
	var stale bool
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write all keys and services as JSON",
		Long: "Write all keys and services, or the keys that start with --prefix, as one JSON document\n" +
			"at one version: to FILE, readable by its owner only, or to standard output. FILE is\n" +
			"replaced once all of it is there. For a copy to restore a cluster from see `konsul backup`.",
		Example: "  konsul export data.json\n  konsul export --prefix app/ app.json\n" +
			"  konsul export | jq '.kv | keys | length'",
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := "-"
			if len(args) == 1 {
				file = args[0]
			}
			var options []client.ReadOption
			if stale {
				options = append(options, client.Stale())
			}
			var meta client.Meta
			options = append(options, client.WithMeta(&meta))
			// An interrupt must not leave a temporary file behind.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return f.stream(cmd, "export", func(c *client.Client) error {
				n, err := writeTo(cmd, file, func(w io.Writer) (int64, error) {
					m := startMeter(cmd.ErrOrStderr(), "exported", 0)
					defer m.stop()
					return c.Export(ctx, io.MultiWriter(w, m), o, options...)
				})
				if err != nil || file == "-" {
					return err
				}
				return f.done(cmd, map[string]any{"file": file, "size_bytes": n, "index": meta.Index},
					fmt.Sprintf("exported to %s (%s, index %d)", file, size(n), meta.Index))
			})
		},
	}
	f.register(cmd, adminTimeout)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON about the file")
	cmd.Flags().StringVar(&o.Prefix, "prefix", "", "only keys that start with this, and no services")
	cmd.Flags().BoolVar(&stale, "stale", false, "export what the node has, without asking the leader")
	return cmd
}

func importCommand() *cobra.Command {
	f := &kvFlags{}
	var o client.ImportOptions
	var policy string
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Read keys and services from JSON",
		Long: "Read keys and services from a file as `konsul export` writes it, or from standard input.\n" +
			"They are written in chunks, so an import that fails has done a part, and says how much;\n" +
			"importing again is harmless. --dry-run checks the whole file and changes nothing.",
		Example: "  konsul import data.json\n  konsul import --dry-run --on-conflict fail data.json\n" +
			"  konsul export --http-addr old:8500 | konsul import -",
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.OnConflict = client.Conflict(policy)
			switch o.OnConflict {
			case client.Overwrite, client.Skip, client.FailOnConflict:
			default:
				return usage(cmd, "--on-conflict %q: it must be overwrite, skip or fail", policy)
			}
			in, total, err := openInput(cmd, args[0])
			if err != nil {
				return explain("import "+args[0], err)
			}
			defer in.Close()
			return f.stream(cmd, "import "+args[0], func(c *client.Client) error {
				m := startMeter(cmd.ErrOrStderr(), "sent", total)
				result, err := c.Import(cmd.Context(), io.TeeReader(in, m), o)
				m.stop()
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), result)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), describeImport(result, o.DryRun))
				return err
			})
		},
	}
	f.register(cmd, adminTimeout)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "check everything, change nothing")
	cmd.Flags().StringVar(&policy, "on-conflict", string(client.Overwrite), "what to do with keys that exist: overwrite, skip or fail")
	cmd.Flags().StringVar(&o.Prefix, "prefix", "", "only keys that start with this, and no services")
	if err := cmd.RegisterFlagCompletionFunc("on-conflict", cobra.FixedCompletions([]string{"overwrite", "skip", "fail"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // no such flag: a slip above
	}
	return cmd
}

func describeImport(r client.ImportResult, dry bool) string {
	did := "imported"
	if dry {
		did = "would import"
	}
	text := fmt.Sprintf("%s %d keys and %d services", did, r.Keys, r.Services)
	if r.Skipped > 0 {
		text += fmt.Sprintf(", %d that exist are skipped", r.Skipped)
	}
	return text
}

// openInput opens a file, or standard input for "-"; total is its size, 0 = not known.
func openInput(cmd *cobra.Command, name string) (in io.ReadCloser, total int64, err error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), 0, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// writeTo lets write fill the file name, or standard output for "-". The file appears
// under its name when all of it is on disk, for its owner only; until then, and if write
// fails, what was there stays. What is no plain file (a pipe, /dev/null) is written to.
func writeTo(cmd *cobra.Command, name string, write func(io.Writer) (int64, error)) (n int64, err error) {
	if name == "-" {
		return write(cmd.OutOrStdout())
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return 0, fmt.Errorf("%s is a directory", name)
		}
		file, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		n, err := write(file)
		return n, errors.Join(err, file.Close())
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.tmp") // mode 0600
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	n, err = write(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return n, err
	}
	return n, os.Rename(tmp.Name(), name)
}

// meter shows a person at a terminal how far a long transfer is. It is written to beside
// the transfer itself.
type meter struct {
	out   io.Writer
	verb  string
	total int64

	mu    sync.Mutex
	n     int64
	shown int // columns of the last line
	begin time.Time
	done  chan struct{}
	gone  chan struct{}
}

// meterStep is how often a meter shows itself.
const meterStep = 500 * time.Millisecond

// startMeter shows nothing if out is no terminal. total is in bytes, 0 = not known.
func startMeter(out io.Writer, verb string, total int64) *meter {
	m := &meter{out: out, verb: verb, total: total, begin: time.Now(), done: make(chan struct{}), gone: make(chan struct{})}
	if !isTerminal(out) {
		close(m.gone)
		return m
	}
	go m.run()
	return m
}

func (m *meter) run() {
	defer close(m.gone)
	tick := time.NewTicker(meterStep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.show(m.line())
		case <-m.done:
			m.show("")
			return
		}
	}
}

// Write counts.
func (m *meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	m.n += int64(len(p))
	m.mu.Unlock()
	return len(p), nil
}

func (m *meter) line() string {
	m.mu.Lock()
	n := m.n
	m.mu.Unlock()
	text := m.verb + " " + size(n)
	if m.total > 0 {
		text += fmt.Sprintf(" of %s (%d %%)", size(m.total), min(100*n/m.total, 100))
	}
	if took := time.Since(m.begin).Seconds(); took > 1 {
		text += fmt.Sprintf(", %s/s", size(int64(float64(n)/took)))
	}
	return text
}

// show replaces the line that is there.
func (m *meter) show(text string) {
	if m.shown == 0 && text == "" {
		return
	}
	fmt.Fprintf(m.out, "\r%s%s", text, strings.Repeat(" ", max(m.shown-len(text), 0)))
	if m.shown = len(text); m.shown == 0 {
		fmt.Fprint(m.out, "\r")
	}
}

// stop ends it and clears its line. It may be called more than once.
func (m *meter) stop() {
	select {
	case <-m.done:
	default:
		close(m.done)
	}
	<-m.gone
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
