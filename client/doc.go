// Package client is the Go client of Konsul, a clustered key-value store with services,
// sessions and locks.
//
//	c, err := client.New(client.Config{Addresses: []string{"127.0.0.1:8501", "127.0.0.1:8502"}})
//	put, err := c.Put(ctx, "app/config", []byte("on"))
//	entry, err := c.Get(ctx, "app/config")
//
// # Addresses
//
// A client knows one or more API addresses of the same cluster. Any node answers
// any request, so it stays with one address while that works and moves to the next
// when it does not. [Client.Node] gives a client of one node only, for what is
// about a node and not about the cluster (its digest, its health).
//
// # What is sent again
//
// A write ends in one of three ways: done, certainly not applied, unknown. Only what
// was certainly not applied is sent again: the answers overloaded, no_leader,
// not_ready, shutting_down and disk_full, and a connection that was never made. A
// write whose answer got lost is reported as [ErrOutcomeUnknown] and is the caller's
// to decide. With an idempotency key ([IdempotencyKey], or Config.AutoIdempotency)
// the server remembers the first answer, so such a write is sent again too. Reads
// are sent again whatever happened to them.
//
// Sending again ends with the context, with Config.RetryTimeout, or, with
// Config.FailFast, as soon as no address accepts a connection. A Retry-After of the
// server is waited for.
//
// # Keys and values
//
// Both are arbitrary bytes; a key is a string that need not be UTF-8. A key goes
// into the request's path with every byte percent-encoded that is neither unreserved
// (RFC 3986, section 2.3) nor '/', so "a//b", "../x" and "%2F" arrive as they are.
//
// # Services
//
// [Client.KeepAlive] registers an instance of a service and keeps it registered;
// [Client.Service] reads the instances, [Client.WatchService] follows them. Register,
// Heartbeat and Deregister are the single steps. A TTL is never early; how late an
// expiry may be is the cluster's promise.
//
// # Sessions, locks and leaders
//
// [Client.Lock] waits for a key, holds it, and tells when it is lost. Leader election is
// no more than that: every candidate locks the same key, and who gets it leads until the
// lock is lost (see the example of Lock). The key's value says who it is, and others
// follow it with [Client.Watch]. From a shell it is
//
//	konsul lock leader/api --ttl 10s -- ./serve --as-leader
//
// A lock is a promise of the cluster about who holds a key, and not about what a process
// does that was paused for longer than its TTL. Whatever is changed under a lock should
// be given the fencing token, Lock.Index, and refuse one that is smaller than the
// largest it has seen. A change of Konsul's own keys can be made in a transaction that
// compares the create or modify index of the lock's key.
//
// # Errors
//
// Everything the server says is an [*Error]; test with errors.Is against the
// sentinels of this package, or with the helpers ([IsNotFound], [IsCASConflict], ...).
package client
