package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/snapshot"
)

// OfflineRestore makes a data directory, which must be empty, that holds src; it
// returns the id of the cluster that it will be. The node has the id nodeID, or one of its
// own if that is empty. With keys it is encrypted.
type OfflineRestore func(ctx context.Context, dataDir, nodeID string, keys *encryption.Keys, src snapshot.Source) (clusterID string, err error)

// keyFile is --key-file: the keys of encrypted backups.
type keyFile struct{ path string }

// read returns nil if no file was given.
func (k *keyFile) read() (*encryption.Keys, error) {
	path := k.path
	if path == "" {
		path = os.Getenv(envKeyFile)
	}
	if path == "" {
		return nil, nil
	}
	return encryption.ReadKeyFile(path)
}

// envKeyFile is the node's option, for the same file.
const envKeyFile = "KONSUL_ENCRYPTION_KEY_FILE"

// noKeyOnNode refuses a key that would not be used: the node has its own. The environment's
// is for whatever command comes.
func noKeyOnNode(cmd *cobra.Command, onNode bool) error {
	if onNode && cmd.Flags().Changed("key-file") {
		return usage(cmd, "--key-file and --on-node exclude each other: the node uses the key of its own configuration")
	}
	return nil
}

// needsKey says what to do about a file that is encrypted.
func needsKey(err error) error {
	if errors.Is(err, encryption.ErrNoKey) {
		return fmt.Errorf("%w; give the key with --key-file", err)
	}
	return err
}

// BackupCommand is `konsul backup`. offline may be nil: then there is no --data-dir.
func BackupCommand(offline OfflineRestore) *cobra.Command {
	f, keys := &kvFlags{}, &keyFile{}
	cmd := group("backup", "Save the data, look at what was saved, and restore it",
		"Save the data, look at what was saved, and restore it. A backup holds all keys, services\n"+
			"and sessions as of one index, is compressed, and has a checksum over all of it.",
		backupSave(f, keys), backupInspect(f, keys), backupRestore(f, keys, offline), backupList(f))
	f.register(cmd, adminTimeout)
	cmd.PersistentFlags().StringVar(&keys.path, "key-file", "",
		"file with the key of encrypted backups; `save` encrypts with it ["+envKeyFile+"]")
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// savedBackup is what `backup save` and `backup inspect` say.
type savedBackup struct {
	Path      string `json:"path"`
	SizeBytes int64  `json:"size_bytes"`
	client.BackupInfo
	Records uint64 `json:"records,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
}

func describe(path string, h snapshot.Header, footer snapshot.Footer) savedBackup {
	return savedBackup{
		Path: path, SizeBytes: footer.Size, Records: footer.Records, SHA256: fmt.Sprintf("%x", footer.Sum),
		BackupInfo: client.BackupInfo{Index: h.Index, Since: h.Since, ClusterID: h.ClusterID,
			CreatedAt: time.Unix(0, h.CreatedAt).UTC(), Keys: h.Keys, Services: h.Services},
	}
}

func (b savedBackup) print(out io.Writer) error {
	kind := "full"
	if b.Since > 0 {
		kind = fmt.Sprintf("increment since index %d", b.Since)
	}
	rows := [][]string{
		{"file", readable([]byte(b.Path))},
		{"index", number(b.Index)},
		{"kind", kind},
		{"cluster", b.ClusterID},
		{"made at", b.CreatedAt.Format(time.RFC3339)},
		{"keys", number(b.Keys)},
		{"services", number(b.Services)},
		{"size", fmt.Sprintf("%d bytes", b.SizeBytes)},
	}
	if b.SHA256 != "" {
		rows = append(rows, []string{"sha256", b.SHA256})
	}
	return table(out, rows)
}

func backupSave(f *kvFlags, keys *keyFile) *cobra.Command {
	var since uint64
	var stale, onNode bool
	cmd := &cobra.Command{
		Use:   "save [FILE]",
		Short: "Save a backup to a file here",
		Long: "Save a backup to a file on this machine, konsul-<time>-<index>.snap if none is named. The\n" +
			"cluster goes on meanwhile; the backup is of one index. The file gets its name when it is\n" +
			"whole and on disk. --since saves only what changed after an index: that of the backup before.\n" +
			"--timeout bounds each wait for more of it, not the whole.",
		Example: "  konsul backup save\n  konsul backup save /srv/backups/monday.snap\n" +
			"  konsul backup save tuesday.snap --since 104211     # on top of a backup of index 104211\n" +
			"  konsul backup save --on-node                       # in the node's own backup directory",
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noKeyOnNode(cmd, onNode); err != nil {
				return err
			}
			path := ""
			if len(args) == 1 {
				path = args[0]
			}
			options := client.BackupOptions{Since: since, Stale: stale}
			defer interruptible(cmd)()
			if onNode {
				return f.onNode(cmd, "backup save", func(c *client.Client) error {
					made, err := c.SaveBackup(cmd.Context(), path, options)
					if err != nil {
						return err
					}
					return f.tell(cmd, "saved on the node", savedBackup{Path: made.Path, SizeBytes: made.SizeBytes, BackupInfo: made.BackupInfo, SHA256: made.SHA256})
				})
			}
			return f.stream(cmd, "backup save", func(c *client.Client) error {
				made, err := download(cmd, c, keys, path, options)
				if err != nil {
					return err
				}
				return f.tell(cmd, "saved", made)
			})
		},
	}
	cmd.Flags().Uint64Var(&since, "since", 0, "save only what changed after this index, deletions included")
	cmd.Flags().BoolVar(&stale, "stale", false, "take what the node has, also without a leader")
	cmd.Flags().BoolVar(&onNode, "on-node", false, "save in the node's backup directory; FILE is a name there")
	return cmd
}

// interruptible makes an interrupt end the context of cmd instead of the process, so that
// nothing half done stays behind: gigabytes under a hidden name. A second one ends it as
// ever. stop undoes that.
func interruptible(cmd *cobra.Command) (stop func()) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	cmd.SetContext(ctx)
	return stop
}

// onNode is run for what a node does on its own disk. Nothing is heard of it until it is
// done, which takes as long as there is data: only a --timeout that was given bounds it.
func (f *kvFlags) onNode(cmd *cobra.Command, what string, fn func(*client.Client) error) error {
	if cmd.Flags().Changed("timeout") {
		return f.run(cmd, what, fn)
	}
	return f.stream(cmd, what, fn)
}

func (f *kvFlags) tell(cmd *cobra.Command, what string, b savedBackup) error {
	if f.json {
		return printJSON(cmd.OutOrStdout(), b)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, index %d, %d keys, %d bytes\n", what, readable([]byte(b.Path)), b.Index, b.Keys, b.SizeBytes)
	return nil
}

// download streams a backup into a file and verifies it on the way.
func download(cmd *cobra.Command, c *client.Client, k *keyFile, path string, o client.BackupOptions) (savedBackup, error) {
	keys, err := k.read()
	if err != nil {
		return savedBackup{}, err
	}
	dir, nameOf, err := place(path)
	if err != nil {
		return savedBackup{}, err
	}
	dir.Encrypt(keys.Files())
	meter := newGauge(cmd.ErrOrStderr(), "saving", 0)
	defer meter.done()
	saved, err := dir.Save(func(w io.Writer) (snapshot.Header, snapshot.Footer, error) {
		return verified(func(check io.Writer) error {
			return c.ReadBackup(cmd.Context(), io.MultiWriter(w, check, meter), o)
		})
	}, nameOf)
	if err != nil {
		return savedBackup{}, err
	}
	shown := saved.Name
	if path != "" {
		shown = path
	}
	return describe(shown, saved.Header, saved.Footer), nil
}

// place is where a backup goes: to path, or under its own name here if there is none.
func place(path string) (*backup.Dir, func(snapshot.Header) string, error) {
	if path == "" {
		dir, err := backup.New(".")
		return dir, backup.DefaultName, err
	}
	dir, name, err := backup.Locate("", path)
	if err == nil {
		err = dir.CheckPlace(name)
	}
	return dir, func(snapshot.Header) string { return name }, err
}

// verified runs fill with a writer that reads what it is given as a backup.
func verified(fill func(io.Writer) error) (h snapshot.Header, f snapshot.Footer, err error) {
	pr, pw := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		var err error
		h, f, err = snapshot.Verify(pr)
		_ = pr.CloseWithError(err) // of a pipe: cannot fail
		checked <- err
	}()
	filled := fill(pw)
	_ = pw.CloseWithError(filled)
	bad := <-checked
	switch {
	case bad != nil && (filled == nil || errors.Is(filled, bad)):
		return h, f, bad
	case filled != nil:
		return h, f, filled
	}
	return h, f, nil
}

func backupInspect(f *kvFlags, keys *keyFile) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE",
		Short: "Verify a backup here and say what is in it",
		Long: "Read a backup on this machine from its beginning to its end, check its checksum, and say\n" +
			"what is in it. No node is asked.",
		Example: "  konsul backup inspect monday.snap",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, footer, err := inspect(cmd, keys, args[0])
			if err != nil {
				return explain("backup inspect", err)
			}
			b := describe(args[0], h, footer)
			if f.json {
				return printJSON(cmd.OutOrStdout(), b)
			}
			return b.print(cmd.OutOrStdout())
		},
	}
}

func inspect(cmd *cobra.Command, k *keyFile, path string) (snapshot.Header, snapshot.Footer, error) {
	keys, err := k.read()
	if err != nil {
		return snapshot.Header{}, snapshot.Footer{}, err
	}
	file, err := os.Open(path)
	if err != nil {
		return snapshot.Header{}, snapshot.Footer{}, err
	}
	defer file.Close()
	meter := newGauge(cmd.ErrOrStderr(), "reading", sizeOf(file))
	defer meter.done()
	var h snapshot.Header
	var footer snapshot.Footer
	clear, err := backup.Unseal(io.TeeReader(file, meter), keys.Files())
	if err == nil {
		h, footer, err = snapshot.Verify(clear)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", path, needsKey(err))
	}
	return h, footer, err
}

func backupRestore(f *kvFlags, keys *keyFile, offline OfflineRestore) *cobra.Command {
	var dataDir, nodeID string
	var onNode bool
	cmd := &cobra.Command{
		Use:   "restore FILE...",
		Short: "Replace the cluster's data by a backup",
		Long: "Replace all data of the cluster by a backup on this machine: a full one, and after it its\n" +
			"increments in order. They are read to the end and found to fit together before anything\n" +
			"changes. Members and the cluster's id stay; indexes go on from above all there were.\n" +
			"With --data-dir no node is asked: an empty data directory is filled, and a node started on it\n" +
			"is a new cluster of one, which others can join; with --key-file it is encrypted with that key.\n" +
			"A node that has raft.node_id in its configuration needs the same --node-id here.\n" +
			"--timeout bounds each wait for the node to take more, not the whole, nor the restore itself.",
		Example: "  konsul backup restore monday.snap\n  konsul backup restore monday.snap tuesday.snap wednesday.snap\n" +
			"  konsul backup restore monday.snap --data-dir /var/lib/konsul",
		Args: args(1, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case onNode && dataDir != "":
				return usage(cmd, "--on-node and --data-dir exclude each other")
			case cmd.Flags().Changed("node-id") && dataDir == "":
				return usage(cmd, "--node-id belongs to --data-dir")
			}
			if err := noKeyOnNode(cmd, onNode); err != nil {
				return err
			}
			defer interruptible(cmd)()
			switch {
			case onNode:
				return f.onNode(cmd, "backup restore", func(c *client.Client) error {
					result, err := c.RestoreBackups(cmd.Context(), args...)
					if err != nil {
						return err
					}
					return f.restored(cmd, result)
				})
			case dataDir != "":
				return restoreOffline(cmd, f, keys, offline, dataDir, nodeID, args)
			}
			return f.stream(cmd, "backup restore", func(c *client.Client) error {
				result, err := send(cmd, c, keys, args)
				if err != nil {
					return err
				}
				return f.restored(cmd, result)
			})
		},
	}
	cmd.Flags().BoolVar(&onNode, "on-node", false, "FILEs are names in the node's backup directory")
	if offline != nil {
		cmd.Flags().StringVar(&dataDir, "data-dir", "", "fill this empty data directory instead, without a node")
		cmd.Flags().StringVar(&nodeID, "node-id", os.Getenv("KONSUL_RAFT_NODE_ID"), "with --data-dir: the node's id; default a random one [KONSUL_RAFT_NODE_ID]")
	}
	return cmd
}

func (f *kvFlags) restored(cmd *cobra.Command, r client.RestoreResult) error {
	if f.json {
		return printJSON(cmd.OutOrStdout(), r)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "restored: the data is that of index %d of cluster %s; it counts from index %d on\n",
		r.Backup.Index, readable([]byte(r.Backup.ClusterID)), r.Index)
	return nil
}

// openChain opens and verifies files. They are open also after an error.
func openChain(cmd *cobra.Command, keys *encryption.Keys, paths []string) (*backup.Chain, []*os.File, error) {
	var files []*os.File
	var in []backup.File
	total := int64(0)
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return nil, files, err
		}
		files, in, total = append(files, file), append(in, file), total+sizeOf(file)
	}
	meter := newGauge(cmd.ErrOrStderr(), "checking", total)
	defer meter.done()
	for i, file := range files {
		in[i] = &metered{file, meter}
	}
	chain, err := backup.NewChain(cmd.Context(), keys.Files(), in, paths)
	return chain, files, needsKey(err)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // only read
	}
}

// send uploads a chain as one whole backup.
func send(cmd *cobra.Command, c *client.Client, k *keyFile, paths []string) (client.RestoreResult, error) {
	keys, err := k.read()
	if err != nil {
		return client.RestoreResult{}, err
	}
	chain, files, err := openChain(cmd, keys, paths)
	defer closeAll(files)
	if err != nil {
		return client.RestoreResult{}, err
	}
	meter := newGauge(cmd.ErrOrStderr(), "sending", chain.Bytes)
	defer meter.done()
	src, err := chain.Source(cmd.Context(), meter.at)
	if err != nil {
		return client.RestoreResult{}, err
	}
	pr, pw := io.Pipe()
	go func() {
		_, err := snapshot.Copy(pw, src)
		meter.waiting("restoring")
		_ = pw.CloseWithError(err) // of a pipe: cannot fail
	}()
	defer pr.Close()
	return c.WriteBackup(cmd.Context(), pr)
}

func restoreOffline(cmd *cobra.Command, f *kvFlags, k *keyFile, offline OfflineRestore, dataDir, nodeID string, paths []string) error {
	keys, err := k.read()
	if err != nil {
		return explain("backup restore", err)
	}
	chain, files, err := openChain(cmd, keys, paths)
	defer closeAll(files)
	if err != nil {
		return explain("backup restore", err)
	}
	meter := newGauge(cmd.ErrOrStderr(), "restoring", chain.Bytes)
	defer meter.done()
	src, err := chain.Source(cmd.Context(), meter.at)
	if err != nil {
		return explain("backup restore", err)
	}
	id, err := offline(cmd.Context(), dataDir, nodeID, keys, src)
	meter.done()
	if err != nil {
		return explain("backup restore", err)
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"data_dir": dataDir, "cluster_id": id, "index": chain.Header.Index})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "restored into %s, as the new cluster %s: start it with `konsul --data-dir %s`\n", dataDir, id, dataDir)
	return nil
}

func backupList(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the backups in the node's backup directory",
		Example: "  konsul backup list\n  konsul backup list --http-addr 127.0.0.1:8502 --json",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, "backup list", func(c *client.Client) error {
				list, err := c.Backups(cmd.Context())
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), map[string]any{"backups": list})
				}
				rows := [][]string{{"MADE AT", "INDEX", "SINCE", "KEYS", "BYTES", "PATH"}}
				for _, b := range list {
					since := "-"
					if b.Since > 0 {
						since = number(b.Since)
					}
					rows = append(rows, []string{b.CreatedAt.UTC().Format(time.RFC3339), number(b.Index), since, number(b.Keys), fmt.Sprint(b.SizeBytes), readable([]byte(b.Path))})
				}
				return table(cmd.OutOrStdout(), rows)
			})
		},
	}
}

func sizeOf(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// metered tells a gauge what is read.
type metered struct {
	*os.File
	meter *gauge
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.File.Read(b)
	_, _ = m.meter.Write(b[:n]) // never fails
	return n, err
}

// gauge shows how far something is, a few times a second, on a terminal.
type gauge struct {
	line  *progressLine
	what  string
	total int64
	n     atomic.Int64
	shown time.Time
}

func newGauge(out io.Writer, what string, total int64) *gauge {
	return &gauge{line: newProgressLine(out), what: what, total: total}
}

// Write implements io.Writer: it counts.
func (m *gauge) Write(b []byte) (int, error) {
	m.at(m.n.Add(int64(len(b))))
	return len(b), nil
}

func (m *gauge) at(n int64) {
	if now := time.Now(); now.Sub(m.shown) > 200*time.Millisecond {
		m.shown = now
		m.show(n)
	}
}

func (m *gauge) show(n int64) {
	if m.total > 0 {
		m.line.show("%s: %d %% of %d MB", m.what, 100*n/m.total, m.total/1e6)
		return
	}
	m.line.show("%s: %d MB", m.what, n/1e6)
}

// waiting says that all is read, and what is being waited for.
func (m *gauge) waiting(what string) { m.line.show("%s ...", what) }

func (m *gauge) done() { m.line.clear() }
