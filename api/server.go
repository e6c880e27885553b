package api

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/raftstore"
)

// Limits of the listener.
const (
	readHeaderTimeout = 10 * time.Second
	// readTimeout is for a whole request, body included: 8 MiB from a slow client.
	readTimeout = 60 * time.Second
	// writeTimeout is for a whole answer; streams and waiting reads set their own.
	writeTimeout = 60 * time.Second
	idleTimeout  = 3 * time.Minute
	// maxHeaderBytes must let a key of 4,096 bytes pass, which is 12 KiB percent-encoded.
	maxHeaderBytes = 64 << 10
)

// Server is the API of one node. Its methods may be used from any goroutine.
type Server struct {
	cfg     Config
	log     hclog.Logger
	node    Node
	cluster Cluster
	metrics *metrics

	mux  *chi.Mux // every route but the keys'
	keys keyRoutes
	// what has no route, or not with that method
	notFound, notAllowed *route

	nodeHeader []string
	leader     atomic.Pointer[leaderHeader]
	calls      sync.Pool // *call

	inFlight atomic.Int64
	waiting  atomic.Int64
	watchers atomic.Int64
	digests  chan struct{} // one token per digest being computed
	// moving: /admin/config said that this node, in memory, shall have a data directory.
	moving atomic.Bool
	// transfers has a token for each export and import.
	transfers chan struct{}
	data      data

	// stopping ends when Drain is called: waiting reads and watches end with it.
	stopping context.Context
	drain    context.CancelFunc
}

// leaderHeader remembers the header value of the leader seen last.
type leaderHeader struct {
	id    string
	value []string
}

// New makes the API of a node. It registers its metrics and starts nothing.
func New(cfg Config, store *raftstore.Store, cl *cluster.Manager) *Server {
	return NewServer(cfg, storeNode{store}, cl)
}

// NewServer is New for any Node; tests give it doubles.
func NewServer(cfg Config, node Node, cl Cluster) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Logger, node: node, cluster: cl,
		nodeHeader: []string{node.NodeID()},
		digests:    make(chan struct{}, 1),
		transfers:  make(chan struct{}, maxTransfers),
		data:       newData(cfg.Data),
	}
	s.calls.New = func() any { return new(call) }
	s.stopping, s.drain = context.WithCancel(context.Background())
	s.metrics = newMetrics(cfg, s)
	s.routes()
	return s
}

// Handler is the API as a handler, for any http.Server.
func (s *Server) Handler() http.Handler { return s }

// HTTPServer is an http.Server with the limits that Handler counts on. The caller
// serves with it, and on shutdown calls Drain before its Shutdown.
func (s *Server) HTTPServer() *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
		BaseContext:       func(net.Listener) context.Context { return context.Background() },
	}
}

// Drain ends watches and waiting reads, and from now on the node says it is not
// ready; other requests go on. It returns at once: http.Server.Shutdown waits.
func (s *Server) Drain() { s.drain() }

func (s *Server) draining() bool { return s.stopping.Err() != nil }

// ServeHTTP routes. Keys go around the router: it would have to be kept from
// cleaning their paths, and it allocates.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if key, ok := keyOf(r.URL); ok {
		s.serveKey(w, r, key)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// leaderValue returns the header value for a leader without allocating each time.
func (s *Server) leaderValue(id string) []string {
	if id == "" {
		return nil
	}
	if l := s.leader.Load(); l != nil && l.id == id {
		return l.value
	}
	l := &leaderHeader{id: id, value: []string{id}}
	s.leader.Store(l)
	return l.value
}
