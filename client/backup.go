package client

import (
	"context"
	"io"
	"net/http"
	"time"
)

// BackupInfo is what a backup says about itself.
type BackupInfo struct {
	// Index is the index whose state it holds; Since, if not 0, that of the backup it
	// is an increment to.
	Index     uint64    `json:"index"`
	Since     uint64    `json:"since,omitempty"`
	ClusterID string    `json:"cluster_id"`
	CreatedAt time.Time `json:"created_at"`
	Keys      uint64    `json:"keys"`
	Services  uint64    `json:"services"`
}

// Backup is a backup in a node's backup directory.
type Backup struct {
	Path      string `json:"path"`
	SizeBytes int64  `json:"size_bytes"`
	BackupInfo
}

// BackupResult is a backup that has just been saved.
type BackupResult struct {
	Backup
	DurationMS int64  `json:"duration_ms"`
	SHA256     string `json:"sha256"`
}

// RestoreResult is what a restore came to.
type RestoreResult struct {
	// Index is where the cluster's state became the backup's.
	Index      uint64     `json:"index"`
	DurationMS int64      `json:"duration_ms"`
	Backup     BackupInfo `json:"backup"`
}

// BackupOptions say what a backup holds.
type BackupOptions struct {
	// Since, if not 0, asks for an increment: what changed after that index.
	Since uint64
	// Stale takes what the asked node has, for when there is no leader.
	Stale bool
}

// SaveBackup makes the asked node save a backup in its backup directory, under path or
// a name of its own. It has no timeout but the context's.
func (c *Client) SaveBackup(ctx context.Context, path string, o BackupOptions) (BackupResult, error) {
	body := map[string]any{}
	if path != "" {
		body["path"] = path
	}
	if o.Since > 0 {
		body["since"] = o.Since
	}
	if o.Stale {
		body["stale"] = true
	}
	var result BackupResult
	err := c.postLong(ctx, "/backup", body, &result)
	return result, err
}

// Backups lists the backups in the asked node's backup directory, the oldest first.
func (c *Client) Backups(ctx context.Context) ([]Backup, error) {
	var result struct {
		Backups []Backup `json:"backups"`
	}
	err := c.get(ctx, "/backups", &result)
	return result.Backups, err
}

// RestoreBackups replaces the whole cluster's data by a backup in the asked node's backup
// directory, or by a full one and its increments, in order. It has no timeout but the
// context's.
func (c *Client) RestoreBackups(ctx context.Context, paths ...string) (RestoreResult, error) {
	var result RestoreResult
	err := c.postLong(ctx, "/restore", map[string]any{"path": paths}, &result)
	return result, err
}

// postLong is for what takes as long as there is data.
func (c *Client) postLong(ctx context.Context, path string, body, out any) error {
	req, err := postJSON(path, body)
	if err != nil {
		return err
	}
	patient := *c
	patient.timeout = 0
	return patient.call(ctx, req, out)
}

// ReadBackup streams a backup from the asked node to w. After an error w may hold a part
// of one, which no reader of backups takes for the whole. The client's Timeout bounds each
// wait for the next bytes.
func (c *Client) ReadBackup(ctx context.Context, w io.Writer, o BackupOptions) error {
	req := &request{method: http.MethodGet, path: "/snapshot", read: true}
	if o.Since > 0 {
		req.setUint("since", o.Since)
	}
	if o.Stale {
		req.set("consistency", "stale")
	}
	_, err := c.download(ctx, req, w)
	return err
}

// WriteBackup replaces the whole cluster's data by the whole backup that r gives. It is
// sent to another address only while nothing of r was taken, so a failure after which the
// restore may have been carried out is ErrOutcomeUnknown. The client's Timeout bounds each
// wait for the node to take more; the restore that follows has none but the context's.
func (c *Client) WriteBackup(ctx context.Context, r io.Reader) (RestoreResult, error) {
	var result RestoreResult
	req := &request{method: http.MethodPut, path: "/snapshot", contentType: "application/octet-stream", patient: true}
	resp, err := c.upload(ctx, req, r)
	if err != nil {
		return result, err
	}
	return result, resp.decode(req, &result)
}
