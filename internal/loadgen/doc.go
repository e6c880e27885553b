// Package loadgen puts load on a key-value store and measures it: the engine of
// `konsul bench`, and of the comparisons in bench/, where other stores are plugged in
// as another Target and are measured by the same loop.
//
// # What is measured
//
// A closed loop: each of N clients has one Worker (one connection), and sends its next
// operation when the last is answered. So throughput and latency belong together, and a
// stall of the store shows as one slow operation per client, not as the many that an
// open arrival process would have queued: compare runs with the same number of clients
// only. An operation counts if it started after the warm-up and before the end;
// the run waits for the last of them. Latencies are of successful operations, in
// HdrHistograms with three significant digits; failures are counted by code.
//
// Which operations a client sends is a function of the seed, the client's number and
// the workload alone.
//
// A batch is one operation, and so is one latency, however many keys it writes.
//
// # Watches
//
// The watch workload has Config.Writers clients in that loop, and Config.Clients watchers
// of package client, which are connected before the first write. Every value begins with
// a stamp (stamp.go): which run, which writer, the number of the write, when it was sent.
// A writer's numbers must arrive in order and without a gap, so a watcher keeps one number per
// writer, and what is lost, doubled or out of order shows whatever the load is. When the
// writers have ended one more write says so; who sees its event has seen all before it,
// so that the end needs no waiting time, and a missing event is missing for certain.
// Writes that failed may arrive or not, at any time, but not twice. A watch that ends with
// ErrReset or ErrCompacted begins anew at the current index; what that skips is counted
// as skipped, not as missing.
//
// Delivery is the time from just before a write is sent to its event in the hands of a
// watcher. An acknowledgement is no beginning: the event may overtake it.
//
// # Why HTTP by hand
//
// The generator shares the CPU with the servers it measures, so each microsecond it
// saves is one it does not take from the result. net/http's client spends about ten per
// request on goroutine hand-overs, header maps and allocations. HTTPWorker writes a
// preformatted request with one system call and reads the answer in place: no
// allocation, no hand-over. What it takes shortcuts on is its own requests; answers are
// parsed with care (interim responses, chunked bodies, bodies that end with the
// connection), and a fuzz test holds the parser against net/http's.
//
// # Trade-offs
//
// One clock reading per operation, shared by its end and the start of the next, so the
// generator's own work (choosing a key) counts as latency: well under a microsecond.
// Every client has its own histograms (about 150 KiB each) instead of a shared one with
// locks. An operation's time limit is enforced to within half of it, because arming
// a timer for each would cost as much as the request.
//
// Watchers read with net/http and decode JSON, as consumers do, and share the CPU: with
// many of them delivery measures the generator as well. The client drops what the server
// sends again at the same place of the log, so it is what a consumer gets that is
// checked, not every byte on the wire.
package loadgen
