package loadgen

import (
	"context"
	"fmt"

	"github.com/neogan74/konsul/client"
)

// The sizes of a preload batch, below the API's limits (1,024 operations, 1 MiB).
const (
	preloadItems = 1000
	preloadBytes = 900 << 10
)

// Preload writes every key once, in batches, so that gets find something. It may
// overwrite what an earlier run wrote. Progress, if not nil, hears how many are there.
func (t *HTTPTarget) Preload(ctx context.Context, cfg *Config, progress func(done uint64)) error {
	c, err := client.New(client.Config{Addresses: t.Addresses, Token: t.Token})
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	v := newValues(cfg.ValueSize, cfg.Seed)
	perItem := len(t.Prefix) + keyDigits + cfg.ValueSize + 32
	count := uint64(max(1, min(preloadItems, preloadBytes/perItem)))
	for from := uint64(0); from < cfg.Keys; from += count {
		to := min(from+count, cfg.Keys)
		items := make(map[string][]byte, count)
		for key := from; key < to; key++ {
			items[t.KeyName(key)] = v.at(key)
		}
		if err := set(ctx, c, items); err != nil {
			return fmt.Errorf("writing the keys %d to %d: %w", from, to-1, err)
		}
		if progress != nil {
			progress(to)
		}
	}
	return nil
}

// set writes a batch. Writing it twice does no harm, so an unknown outcome is one more try.
func set(ctx context.Context, c *client.Client, items map[string][]byte) error {
	for tries := 1; ; tries++ {
		_, err := c.BatchSet(ctx, items)
		if err == nil || !client.IsUnknownOutcome(err) || tries == 3 || ctx.Err() != nil {
			return err
		}
	}
}
