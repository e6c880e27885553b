// Package etcdload is a client of etcd's v3 API that costs about as little as
// the HTTP/1.1 client that Konsul is measured with: the gRPC calls Put and Range,
// spoken over HTTP/2 by hand.
//
// A real gRPC client spends more of the machine than the servers under test
// have to spare: a handful of goroutine hand-overs and some tens of allocations per
// call. Here a request is one system call with preformatted headers (the indexed
// form that any client's second request has), and the answer is parsed in place.
// Everything the protocol asks of a client is done: both settings and pings are
// acknowledged, flow control is kept in both directions, headers are decoded with
// their dynamic table, and the gRPC status of every call is checked.
//
// A connection is used by one worker, which then reads its own answers, or shared by
// several, whose answers a reader hands over.
package etcdload
