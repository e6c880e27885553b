package client

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"slices"
)

// WatchService yields the live instances of a service, first as they are and then after
// every change; none while there is none. Unlike Watch it may skip what was true for a
// moment only, and so never falls behind. It ends with the context, the loop, or an
// error that the same request would get again; a lost connection is none once the first
// read has succeeded. Options as for Service; not Wait, At or WithMeta.
//
//	for instances, err := range c.WatchService(ctx, "web", client.Healthy()) {
func (c *Client) WatchService(ctx context.Context, name string, options ...ReadOption) iter.Seq2[[]Instance, error] {
	return func(yield func([]Instance, error) bool) {
		var meta Meta
		var index uint64
		var last []Instance
		for failures := 0; ; {
			read := append(options[:len(options):len(options)], WithMeta(&meta))
			if index > 0 {
				read = append(read, Wait(index, 0))
			}
			instances, err := c.Service(ctx, name, read...)
			if errors.Is(err, ErrServiceNotFound) || errors.Is(err, ErrServiceExpired) {
				err = nil
			}
			switch {
			case ctx.Err() != nil:
				yield(nil, ctx.Err())
				return
			case err != nil && index > 0 && resumable(err):
				sleep(ctx, backoff(failures))
				failures++
				continue
			case err != nil:
				yield(nil, err)
				return
			case meta.Index == 0:
				yield(nil, errors.New("watching: the answer has no X-Konsul-Index"))
				return
			}
			// An answer without news only says that the time to wait has passed.
			if now := lasting(instances); index == 0 || !reflect.DeepEqual(now, last) {
				last = now
				if !yield(instances, nil) {
					return
				}
			}
			failures, index = 0, meta.Index
		}
	}
}

// lasting is a copy without what changes from one moment to the next.
func lasting(instances []Instance) []Instance {
	instances = slices.Clone(instances)
	for i := range instances {
		instances[i].ExpiresIn = 0
	}
	return instances
}
