package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
)

// failure is an error as the client sees it.
type failure struct {
	status int
	code   string
	text   string
	// retryAfter is in seconds; 0 = no Retry-After. It is set exactly where nothing
	// was applied and the same request may succeed later.
	retryAfter int
	allow      string        // the Allow header of 405
	numbers    []number      // modify_index, limit, oldest_index, op
	field      string        // the field a cluster request is wrong in
	session    string        // who holds the key
	wait       time.Duration // for which nobody may hold the key
	key        []byte        // the key it is about, of many
}

type number struct {
	name  string
	value uint64
}

func (f *failure) Error() string { return f.text }

func (f *failure) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"error":`...)
	dst, _ = jsonwire.AppendText(dst, []byte(strings.ToValidUTF8(f.text, "\uFFFD")))
	dst = append(dst, `,"code":"`...)
	dst = append(dst, f.code...)
	dst = append(dst, '"')
	for _, n := range f.numbers {
		dst = append(dst, `,"`...)
		dst = append(dst, n.name...)
		dst = append(dst, `":`...)
		dst = strconv.AppendUint(dst, n.value, 10)
	}
	if f.session != "" {
		dst = appendString(dst, `,"session":`, f.session)
	}
	if f.wait > 0 {
		dst = appendDuration(dst, `,"wait":`, f.wait)
	}
	if f.field != "" {
		dst = append(dst, `,"field":`...)
		dst = jsonwire.AppendString(dst, strings.ToValidUTF8(f.field, "\uFFFD"))
	}
	if f.key != nil {
		dst = appendKey(append(dst, ','), f.key)
	}
	return append(dst, '}')
}

const retrySoon = 1 // second

// The errors this package makes itself.
var (
	errNoRoute         = &failure{status: http.StatusNotFound, code: "not_found", text: "no such endpoint"}
	errCrossOrigin     = &failure{status: http.StatusForbidden, code: "forbidden", text: "a page of another origin may not write here"}
	errTooManyRequests = &failure{status: http.StatusTooManyRequests, code: "overloaded", text: "too many requests at the same time", retryAfter: retrySoon}
	errTooManyWaiting  = &failure{status: http.StatusTooManyRequests, code: "overloaded", text: "too many watches and waiting reads", retryAfter: retrySoon}
	errDraining        = &failure{status: http.StatusServiceUnavailable, code: "shutting_down", text: "this node is shutting down", retryAfter: retrySoon}
	errNotCompacted    = &failure{status: http.StatusServiceUnavailable, code: "not_ready", retryAfter: 60,
		text: "nothing was compacted: the snapshot that comes first was not done in time; it goes on"}
	errCheckNotFound = errors.New("check not found")
	// errClientGone: nobody is left to answer.
	errClientGone = errors.New("client went away")
)

// statusClientGone is what is counted for a request whose client went away (nginx's number).
const statusClientGone = 499

func badRequest(format string, args ...any) *failure {
	return &failure{status: http.StatusBadRequest, code: "bad_request", text: fmt.Sprintf(format, args...)}
}

func tooLarge(what string, limit int) *failure {
	return &failure{
		status: http.StatusRequestEntityTooLarge, code: "too_large",
		text:    fmt.Sprintf("%s too large: at most %d", what, limit),
		numbers: []number{{"limit", uint64(limit)}},
	}
}

func methodNotAllowed(allow []string) *failure {
	return &failure{
		status: http.StatusMethodNotAllowed, code: "method_not_allowed",
		text: "this endpoint has other methods: " + strings.Join(allow, ", "), allow: strings.Join(allow, ", "),
	}
}

// sentinels maps the errors of the packages below. The first match wins: whatever
// else an error says, unknown is unknown.
var sentinels = []struct {
	is         error
	status     int
	code       string
	retryAfter int
}{
	{raftstore.ErrOutcomeUnknown, http.StatusGatewayTimeout, "outcome_unknown", 0},
	{persistence.ErrKeyNotFound, http.StatusNotFound, "key_not_found", 0},
	{persistence.ErrServiceNotFound, http.StatusNotFound, "service_not_found", 0},
	{persistence.ErrServiceExpired, http.StatusGone, "service_expired", 0},
	{persistence.ErrSessionNotFound, http.StatusNotFound, "session_not_found", 0},
	{errCheckNotFound, http.StatusNotFound, "check_not_found", 0},
	{raftstore.ErrWrongCluster, http.StatusConflict, "wrong_cluster", 0},
	{raftstore.ErrBadConfig, http.StatusConflict, "wrong_state", 0},
	{raftstore.ErrLocked, http.StatusConflict, "wrong_state", 0},
	{raftstore.ErrOverloaded, http.StatusTooManyRequests, "overloaded", retrySoon},
	{raftstore.ErrDiskFull, http.StatusServiceUnavailable, "disk_full", 5},
	{persistence.ErrMaintaining, http.StatusConflict, "already_running", 0},
	{persistence.ErrNoSpace, http.StatusServiceUnavailable, "disk_full", 5},
	{raftstore.ErrShuttingDown, http.StatusServiceUnavailable, "shutting_down", retrySoon},
	{persistence.ErrClosed, http.StatusServiceUnavailable, "shutting_down", retrySoon},
	{raftstore.ErrNoLeader, http.StatusServiceUnavailable, "no_leader", retrySoon},
	{raftstore.ErrNotLeader, http.StatusServiceUnavailable, "no_leader", retrySoon},
	{raftstore.ErrRemoved, http.StatusServiceUnavailable, "not_ready", retrySoon},
	{raftstore.ErrNotMember, http.StatusServiceUnavailable, "not_ready", retrySoon},
	{raftstore.ErrNotReady, http.StatusServiceUnavailable, "not_ready", retrySoon},

	{cluster.ErrUnknownMember, http.StatusNotFound, "member_not_found", 0},
	{cluster.ErrLastVoter, http.StatusConflict, "last_voter", 0},
	{cluster.ErrWouldLoseQuorum, http.StatusConflict, "would_lose_quorum", 0},
	{cluster.ErrNotVoter, http.StatusConflict, "not_voter", 0},
	{cluster.ErrAddressInUse, http.StatusConflict, "address_in_use", 0},
	{cluster.ErrMemberExists, http.StatusConflict, "member_exists", 0},
	{cluster.ErrUnreachable, http.StatusBadRequest, "bad_request", 0},
	{cluster.ErrTransferFailed, http.StatusServiceUnavailable, "transfer_failed", retrySoon},
	{cluster.ErrNotFormed, http.StatusServiceUnavailable, "not_formed", retrySoon},

	{fsm.ErrReset, http.StatusGone, "reset", 0},
	{errClientGone, statusClientGone, "client_gone", 0},
}

// failure finds what the client sees of an error. What is in no table is a bug
// here or a broken node: 500, with the details only in the log.
func (c *call) failure(err error) *failure {
	if f := typedFailure(err); f != nil {
		return f
	}
	for _, s := range sentinels {
		if errors.Is(err, s.is) {
			return &failure{status: s.status, code: s.code, text: err.Error(), retryAfter: s.retryAfter}
		}
	}
	switch {
	case c.r.Context().Err() != nil:
		return &failure{status: statusClientGone, code: "client_gone", text: "the client went away"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		// Of reads and of what changes nothing: writes never let it come this far (write.go).
		return &failure{status: http.StatusServiceUnavailable, code: "not_ready", text: "not done in time", retryAfter: retrySoon}
	}
	return &failure{status: http.StatusInternalServerError, code: "internal", text: "internal error; the node's log says more"}
}

// typedFailure maps errors that carry more than their identity.
func typedFailure(err error) *failure {
	var (
		own       *failure
		limit     *command.LimitError
		invalid   *command.InvalidError
		member    *cluster.InvalidError
		compacted *persistence.CompactedError
		future    *persistence.FutureIndexError
		syntax    *jsonwire.SyntaxError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &syntax):
		return badRequest("malformed JSON: %s", syntax)
	case errors.As(err, &limit):
		f := tooLarge(limit.What, limit.Limit)
		f.text = limit.Error()
		return f
	case errors.As(err, &invalid):
		return badRequest("%s", invalid)
	case errors.As(err, &member):
		f := badRequest("%s", err)
		f.field = member.Field
		return f
	case errors.As(err, &compacted):
		return &failure{
			status: http.StatusGone, code: "compacted", text: err.Error(),
			numbers: []number{{"oldest_index", compacted.Oldest}},
		}
	case errors.As(err, &future):
		f := badRequest("%s", err)
		f.numbers = []number{{"newest_index", future.Newest}}
		return f
	}
	return nil
}
