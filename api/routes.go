package api

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"
)

// route is one endpoint.
type route struct {
	method  string
	pattern string
	serve   func(*call) error
	// exempt from the limit on concurrent requests: an overloaded node must still
	// say how it is.
	exempt bool

	metrics *routeMetrics
}

// keyRoutes serve /kv/{key}.
type keyRoutes struct{ get, put, post, del *route }

const keyPrefix = "/kv/"

// keyOf returns the key of a request for one: the rest of the path after /kv/,
// percent-decoded once, which is what net/url keeps in Path. The prefix must be
// there as it is: "/kv%2Fa" is not a key.
func keyOf(u *url.URL) (string, bool) {
	raw := u.RawPath
	if raw == "" {
		raw = u.Path
	}
	if !strings.HasPrefix(raw, keyPrefix) || !strings.HasPrefix(u.Path, keyPrefix) {
		return "", false
	}
	return u.Path[len(keyPrefix):], true
}

func (s *Server) routes() {
	key := func(method string, serve func(*call) error) *route {
		return s.route(route{method: method, pattern: "/kv/{key}", serve: serve})
	}
	s.keys = keyRoutes{
		get:  key(http.MethodGet, (*call).kvGet),
		put:  key(http.MethodPut, (*call).kvPut),
		post: key(http.MethodPost, (*call).kvPut),
		del:  key(http.MethodDelete, (*call).kvDelete),
	}
	table := []route{
		{method: http.MethodGet, pattern: "/kv", serve: (*call).kvList},
		{method: http.MethodDelete, pattern: "/kv", serve: (*call).kvDeletePrefix},
		{method: http.MethodPost, pattern: "/batch/set", serve: (*call).batchSet},
		{method: http.MethodPost, pattern: "/batch/get", serve: (*call).batchGet},
		{method: http.MethodPost, pattern: "/batch/delete", serve: (*call).batchDelete},
		{method: http.MethodPost, pattern: "/txn", serve: (*call).txn},
		{method: http.MethodGet, pattern: "/watch", serve: (*call).watch},
		{method: http.MethodGet, pattern: "/export", serve: (*call).export},
		{method: http.MethodPost, pattern: "/import", serve: (*call).importData},
		{method: http.MethodGet, pattern: "/services", serve: (*call).serviceList},
		{method: http.MethodGet, pattern: "/services/{name}", serve: (*call).serviceGet},
		{method: http.MethodPut, pattern: "/services/{name}", serve: (*call).serviceRegister},
		{method: http.MethodDelete, pattern: "/services/{name}", serve: (*call).serviceDeregister},
		{method: http.MethodPut, pattern: "/services/{name}/heartbeat", serve: (*call).serviceHeartbeat},
		{method: http.MethodGet, pattern: "/services/{name}/checks", serve: (*call).serviceChecks},
		{method: http.MethodPut, pattern: "/services/{name}/checks/{check}", serve: (*call).serviceCheckUpdate},
		{method: http.MethodGet, pattern: "/checks", serve: (*call).checkList},
		{method: http.MethodPut, pattern: "/checks/{check}", serve: (*call).checkRegister},
		{method: http.MethodDelete, pattern: "/checks/{check}", serve: (*call).checkDeregister},
		{method: http.MethodPut, pattern: "/checks/{check}/status", serve: (*call).checkUpdate},
		{method: http.MethodPost, pattern: "/sessions", serve: (*call).sessionCreate},
		{method: http.MethodGet, pattern: "/sessions", serve: (*call).sessionList},
		{method: http.MethodGet, pattern: "/sessions/{session}", serve: (*call).sessionGet},
		{method: http.MethodDelete, pattern: "/sessions/{session}", serve: (*call).sessionDestroy},
		{method: http.MethodPut, pattern: "/sessions/{session}/renew", serve: (*call).sessionRenew},
		{method: http.MethodPost, pattern: "/backup", serve: (*call).backupSave},
		{method: http.MethodGet, pattern: "/backups", serve: (*call).backupList},
		{method: http.MethodPost, pattern: "/restore", serve: (*call).restoreFiles},
		{method: http.MethodGet, pattern: "/snapshot", serve: (*call).snapshotGet},
		{method: http.MethodPut, pattern: "/snapshot", serve: (*call).snapshotPut},
		{method: http.MethodPost, pattern: "/admin/config", serve: (*call).adminConfig},
		{method: http.MethodPost, pattern: "/admin/sync", serve: (*call).adminSync},
		{method: http.MethodPost, pattern: "/admin/gc", serve: (*call).adminGC},
		{method: http.MethodPost, pattern: "/admin/compact", serve: (*call).adminCompact},
		{method: http.MethodGet, pattern: "/cluster/status", serve: (*call).clusterStatus},
		{method: http.MethodGet, pattern: "/cluster/leader", serve: (*call).clusterLeader},
		{method: http.MethodGet, pattern: "/cluster/peers", serve: (*call).clusterPeers},
		{method: http.MethodGet, pattern: "/cluster/digest", serve: (*call).clusterDigest},
		{method: http.MethodPost, pattern: "/cluster/join", serve: (*call).clusterJoin},
		{method: http.MethodPost, pattern: "/cluster/bootstrap", serve: (*call).clusterBootstrap},
		{method: http.MethodDelete, pattern: "/cluster/leave/{id}", serve: (*call).clusterLeave},
		{method: http.MethodPost, pattern: "/cluster/transfer", serve: (*call).clusterTransfer},
		{method: http.MethodPost, pattern: "/cluster/snapshot", serve: (*call).clusterSnapshot},
		{method: http.MethodGet, pattern: "/health", serve: (*call).health, exempt: true},
		{method: http.MethodGet, pattern: "/health/live", serve: (*call).healthLive, exempt: true},
		{method: http.MethodGet, pattern: "/health/ready", serve: (*call).healthReady, exempt: true},
		{method: http.MethodGet, pattern: "/metrics", serve: (*call).prometheus, exempt: true},
	}
	mux := chi.NewRouter()
	for _, rt := range table {
		rt := s.route(rt)
		serve := func(w http.ResponseWriter, r *http.Request) { s.run(rt, w, r, "") }
		mux.Method(rt.method, rt.pattern, http.HandlerFunc(serve))
		if rt.method == http.MethodGet && rt.pattern != "/watch" && rt.pattern != "/export" {
			mux.Head(rt.pattern, serve)
		}
	}
	s.notFound = s.route(route{method: "any", pattern: "not found", serve: (*call).refuseRoute, exempt: true})
	s.notAllowed = s.route(route{method: "any", pattern: "method not allowed", serve: (*call).refuseMethod, exempt: true})
	mux.NotFound(func(w http.ResponseWriter, r *http.Request) { s.run(s.notFound, w, r, "") })
	mux.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) { s.run(s.notAllowed, w, r, "") })
	s.mux = mux
}

func (s *Server) route(rt route) *route {
	rt.metrics = s.metrics.forRoute(rt.method, rt.pattern)
	return &rt
}

func (s *Server) serveKey(w http.ResponseWriter, r *http.Request, key string) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.run(s.keys.get, w, r, key)
	case http.MethodPut:
		s.run(s.keys.put, w, r, key)
	case http.MethodPost:
		s.run(s.keys.post, w, r, key)
	case http.MethodDelete:
		s.run(s.keys.del, w, r, key)
	default:
		s.run(s.notAllowed, w, r, key)
	}
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}

func (c *call) refuseRoute() error { return errNoRoute }

// refuseMethod answers 405 with the methods the path has.
func (c *call) refuseMethod() error {
	if _, ok := keyOf(c.r.URL); ok {
		return methodNotAllowed(methods)
	}
	path := c.r.URL.RawPath
	if path == "" {
		path = c.r.URL.Path
	}
	var allowed []string
	for _, m := range methods {
		if c.s.mux.Match(chi.NewRouteContext(), m, path) {
			allowed = append(allowed, m)
		}
	}
	return methodNotAllowed(allowed)
}
