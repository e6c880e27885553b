package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/raftstore"
)

// Backuper takes the node's state out and puts another one in.
type Backuper interface {
	// Backup streams the state to w; begin hears of the header before anything is written.
	Backup(ctx context.Context, w io.Writer, o raftstore.BackupOptions) (snapshot.Header, snapshot.Footer, error)
	// Restore replaces the whole cluster's state by that of src, and returns the index
	// from which on it is that.
	Restore(ctx context.Context, src snapshot.Source) (index uint64, err error)
	// Room is an error if the data directory's disk must not be written to.
	Room() error
}

// DataConfig says where backups go. Without a Dir there are none on this node.
type DataConfig struct {
	Dir *backup.Dir
	// SpoolDir takes what is uploaded until it is verified; default: the system's.
	SpoolDir string
	// Timeout bounds one backup or restore. Default 1 h.
	Timeout time.Duration
}

// data is what the server keeps for backup and restore.
type data struct {
	DataConfig
	saving, restoring chan struct{} // a token for each that is under way
}

// maxSaving bounds the backups at the same time: each holds back the history.
const maxSaving = 4

func newData(cfg DataConfig) data {
	set(&cfg.Timeout, time.Hour)
	if cfg.SpoolDir == "" {
		cfg.SpoolDir = filepath.Join(os.TempDir(), "konsul-spool")
	}
	return data{cfg, make(chan struct{}, maxSaving), make(chan struct{}, 1)}
}

var (
	errTooManyBackups = &failure{status: http.StatusTooManyRequests, code: "overloaded",
		text: "too many backups at the same time on this node", retryAfter: 5}
	errRestoring = &failure{status: http.StatusTooManyRequests, code: "overloaded",
		text: "this node is busy with another restore", retryAfter: 5}
	errNoBackupDir = &failure{status: http.StatusNotFound, code: "not_found", text: "this node has no backup directory"}
)

// enter takes a token, and gives what is to be done under it a context that ends with
// the client, the timeout, and the node.
func (c *call) enter(tokens chan struct{}, busy error) (context.Context, func(), error) {
	if c.s.draining() {
		return nil, nil, errDraining
	}
	select {
	case tokens <- struct{}{}:
	default:
		return nil, nil, busy
	}
	c.patient(c.s.data.Timeout)
	ctx, cancel := context.WithTimeout(c.r.Context(), c.s.data.Timeout)
	unhook := context.AfterFunc(c.s.stopping, cancel)
	begin := time.Now()
	return ctx, func() { unhook(); cancel(); c.waited += time.Since(begin); <-tokens }, nil
}

func milliseconds(begin time.Time) int64 { return time.Since(begin).Milliseconds() }

// backupSave is POST /backup.
func (c *call) backupSave() error {
	var body struct {
		Path  string `json:"path"`
		Since uint64 `json:"since"`
		Stale bool   `json:"stale"`
	}
	if err := c.adminBody(&body); err != nil {
		return err
	}
	dir := c.s.data.Dir
	if dir == nil {
		return errNoBackupDir
	}
	nameOf := backup.DefaultName
	if body.Path != "" {
		name, err := dir.Resolve(body.Path)
		if err == nil {
			err = dir.CheckPlace(name)
		}
		if err != nil {
			return dataFailure(err)
		}
		nameOf = func(snapshot.Header) string { return name }
	}
	ctx, leave, err := c.enter(c.s.data.saving, errTooManyBackups)
	if err != nil {
		return err
	}
	defer leave()
	begin := time.Now()
	saved, err := dir.Save(func(w io.Writer) (snapshot.Header, snapshot.Footer, error) {
		return c.s.node.Backup(ctx, w, raftstore.BackupOptions{Since: body.Since, Stale: body.Stale})
	}, nameOf)
	if err != nil {
		return dataFailure(err)
	}
	c.s.log.Info("backup saved", "name", saved.Name, "index", saved.Header.Index, "since", body.Since, "bytes", saved.Footer.Size)
	return c.sendJSON(struct {
		Message  string `json:"message"`
		Path     string `json:"path"`
		Size     int64  `json:"size_bytes"`
		Duration int64  `json:"duration_ms"`
		backupFacts
		SHA256 string `json:"sha256"`
	}{"Backup completed successfully", dir.Shown(saved.Name), saved.Footer.Size, milliseconds(begin),
		factsOf(saved.Header), hex.EncodeToString(saved.Footer.Sum[:])})
}

// backupFacts is what a backup's header says.
type backupFacts struct {
	Index     uint64 `json:"index"`
	Since     uint64 `json:"since,omitempty"`
	ClusterID string `json:"cluster_id"`
	CreatedAt string `json:"created_at"`
	Keys      uint64 `json:"keys"`
	Services  uint64 `json:"services"`
}

func factsOf(h snapshot.Header) backupFacts {
	return backupFacts{h.Index, h.Since, h.ClusterID, time.Unix(0, h.CreatedAt).UTC().Format(time.RFC3339Nano), h.Keys, h.Services}
}

// backupList is GET /backups.
func (c *call) backupList() error {
	if err := c.query.done(); err != nil {
		return err
	}
	dir := c.s.data.Dir
	if dir == nil {
		return errNoBackupDir
	}
	found, err := dir.List()
	if err != nil {
		return dataFailure(err)
	}
	type one struct {
		Path string `json:"path"`
		Size int64  `json:"size_bytes"`
		backupFacts
	}
	list := make([]one, len(found))
	for i, f := range found {
		list[i] = one{dir.Shown(f.Name), f.Size, factsOf(f.Header)}
	}
	return c.sendJSON(struct {
		Node    string `json:"node"`
		Backups []one  `json:"backups"`
	}{c.s.node.NodeID(), list})
}

// paths is a path, or a list of them.
type paths []string

// UnmarshalJSON implements json.Unmarshaler.
func (p *paths) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*p = paths{one}
		return nil
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return errors.New("path must be a string or a list of strings")
	}
	*p = list
	return nil
}

// maxChain bounds the files of one restore.
const maxChain = 1000

// restoreFiles is POST /restore.
func (c *call) restoreFiles() error {
	var body struct {
		Path paths `json:"path"`
	}
	if err := c.adminBody(&body); err != nil {
		return err
	}
	dir := c.s.data.Dir
	switch {
	case dir == nil:
		return errNoBackupDir
	case len(body.Path) == 0:
		return badRequest("path is missing: the backup to restore, or a list of a full one and its increments")
	case len(body.Path) > maxChain:
		return badRequest("%d paths, at most %d", len(body.Path), maxChain)
	}
	ctx, leave, err := c.enter(c.s.data.restoring, errRestoring)
	if err != nil {
		return err
	}
	defer leave()
	var files []backup.File
	defer func() {
		for _, f := range files {
			_ = f.(*os.File).Close() // only read
		}
	}()
	for _, path := range body.Path {
		f, err := dir.Open(path)
		if err != nil {
			return dataFailure(err)
		}
		files = append(files, f)
	}
	var shown any = body.Path
	if len(body.Path) == 1 {
		shown = body.Path[0]
	}
	return c.restore(ctx, files, body.Path, shown)
}

// snapshotPut is PUT /snapshot: the body is one whole backup.
func (c *call) snapshotPut() error {
	if err := c.query.done(); err != nil {
		return err
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return unsupported("content encoding %q is not supported", enc)
	}
	ctx, leave, err := c.enter(c.s.data.restoring, errRestoring)
	if err != nil {
		return err
	}
	defer leave()
	f, err := backup.Spool(c.s.data.SpoolDir, c.s.data.Dir.Keys(), &uploaded{ctx: ctx, c: c}, c.s.node.Room)
	if err != nil {
		return dataFailure(err)
	}
	defer f.Close()
	return c.restore(ctx, []backup.File{f}, []string{"the uploaded backup"}, nil)
}

// uploadPatience bounds the wait for the next bytes of an upload.
const uploadPatience = time.Minute

// uploaded is the request's body; each read has its own deadline.
type uploaded struct {
	ctx context.Context
	c   *call
}

func (u *uploaded) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	_ = http.NewResponseController(u.c.w).SetReadDeadline(time.Now().Add(uploadPatience))
	n, err := u.c.r.Body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = u.c.bodyError(err)
	}
	return n, err
}

// restore verifies files to their last byte, and only then begins.
func (c *call) restore(ctx context.Context, files []backup.File, names []string, shown any) error {
	begin := time.Now()
	chain, err := backup.NewChain(ctx, c.s.data.Dir.Keys(), files, names)
	if err != nil {
		return dataFailure(err)
	}
	src, err := chain.Source(ctx, nil)
	if err != nil {
		return dataFailure(err)
	}
	c.s.log.Warn("restoring a backup", "index", chain.Header.Index, "cluster_id", chain.Header.ClusterID, "files", len(files), "bytes", chain.Bytes)
	index, err := c.s.node.Restore(ctx, src)
	if err != nil {
		return outcome(dataFailure(err))
	}
	c.s.log.Warn("backup restored", "index", index, "took", time.Since(begin))
	return c.sendJSON(struct {
		Message  string      `json:"message"`
		Path     any         `json:"path,omitempty"`
		Duration int64       `json:"duration_ms"`
		Index    uint64      `json:"index"`
		Backup   backupFacts `json:"backup"`
	}{"Restore completed successfully", shown, milliseconds(begin), index, factsOf(chain.Header)})
}

// snapshotGet is GET /snapshot.
func (c *call) snapshotGet() error {
	since, _, err := c.query.number("since")
	if err != nil {
		return err
	}
	level, _ := c.query.text("consistency")
	if level != "" && level != "linearizable" && level != "stale" {
		return badRequest("parameter consistency must be linearizable or stale")
	}
	if err := c.query.done(); err != nil {
		return err
	}
	if c.r.Method == http.MethodHead {
		return methodNotAllowed([]string{http.MethodGet, http.MethodPut})
	}
	ctx, leave, err := c.enter(c.s.data.saving, errTooManyBackups)
	if err != nil {
		return err
	}
	defer leave()
	_, _, err = c.s.node.Backup(ctx, &download{c}, raftstore.BackupOptions{Since: since, Stale: level == "stale", Begin: c.beginSnapshot})
	if err != nil {
		return dataFailure(err)
	}
	return nil
}

func (c *call) beginSnapshot(h snapshot.Header) {
	leader, _, _ := c.s.node.Leader()
	c.describe(h.Index, leader)
	c.w.Header()["Content-Disposition"] = []string{`attachment; filename="` + backup.DefaultName(h) + `"`}
	c.w.Header()["X-Konsul-Since"] = []string{strconv.FormatUint(h.Since, 10)}
	c.begin(contentBytes)
}

// download is the answer's body; each write has its own deadline.
type download struct{ c *call }

func (d *download) Write(p []byte) (int, error) {
	_ = http.NewResponseController(d.c.w).SetWriteDeadline(time.Now().Add(d.c.s.cfg.SendTimeout))
	n, err := d.c.w.Write(p)
	if err != nil {
		return n, fmt.Errorf("%w: %w", errClientGone, err)
	}
	return n, nil
}

// dataFailure gives the errors about files their place in the API. Others stay.
func dataFailure(err error) error {
	refuse := func(status int, code string) error { return &failure{status: status, code: code, text: err.Error()} }
	switch {
	case errors.As(err, new(*failure)), errors.Is(err, errClientGone):
		return err
	case errors.Is(err, backup.ErrBadPath):
		return refuse(http.StatusBadRequest, "bad_request")
	case errors.Is(err, backup.ErrNotFound):
		return refuse(http.StatusNotFound, "not_found")
	case errors.Is(err, snapshot.ErrNotSnapshot):
		return refuse(http.StatusBadRequest, "not_a_backup")
	case errors.Is(err, snapshot.ErrTooNew):
		return refuse(http.StatusBadRequest, "backup_too_new")
	case errors.Is(err, encryption.ErrNoKey), errors.Is(err, encryption.ErrWrongKey):
		return refuse(http.StatusBadRequest, "backup_key")
	case errors.Is(err, snapshot.ErrCorrupt), errors.Is(err, encryption.ErrDamaged):
		return refuse(http.StatusBadRequest, "backup_corrupt")
	case errors.Is(err, snapshot.ErrChain):
		return refuse(http.StatusBadRequest, "backup_chain")
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: %w", raftstore.ErrDiskFull, err)
	case errors.Is(err, fs.ErrPermission):
		return refuse(http.StatusInternalServerError, "permission")
	}
	return err
}
