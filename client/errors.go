package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of failure, for errors.Is. One *Error may be several of them.
var (
	// ErrNotFound: the key (or the member, the service, the session, the check, the route) is not there.
	ErrNotFound = errors.New("not found")
	// ErrServiceNotFound: no such service, or no such instance of it. It is ErrNotFound, too.
	ErrServiceNotFound = errors.New("service not found")
	// ErrServiceExpired: it was registered, and its TTL has passed: register again. It is ErrNotFound, too.
	ErrServiceExpired = errors.New("service expired")
	// ErrSessionNotFound: no such session, because it was destroyed or its TTL has passed. It is ErrNotFound, too.
	ErrSessionNotFound = errors.New("session not found")
	// ErrCheckNotFound: no such check. It is ErrNotFound, too.
	ErrCheckNotFound = errors.New("check not found")
	// ErrLockHeld: another session holds the key; Error.Session is that session.
	ErrLockHeld = errors.New("lock held")
	// ErrLockDelay: the key's last holder was lost a moment ago; Error.Wait is how long it is kept free still.
	ErrLockDelay = errors.New("lock delay")
	// ErrNotHolder: the session does not hold the key; Error.Session is the one that does, if any.
	ErrNotHolder = errors.New("not the holder")
	// ErrLimitReached: the cluster has as many of something as it may: Error.Limit.
	ErrLimitReached = errors.New("limit reached")
	// ErrCASConflict: a condition on a modify index did not hold; Error.ModifyIndex is the current one.
	ErrCASConflict = errors.New("cas conflict")
	// ErrCompacted: the index is older than the history; Error.OldestIndex is the oldest one left.
	ErrCompacted = errors.New("index compacted")
	// ErrReset: the data was replaced under a watch (a restore). Read everything again, then watch from that index.
	ErrReset = errors.New("data was replaced")
	// ErrOutcomeUnknown: a write may or may not have been applied.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrNotApplied: a write was certainly not applied, now or later.
	ErrNotApplied = errors.New("not applied")
	// ErrUnreachable: no connection to any address.
	ErrUnreachable = errors.New("unreachable")
	// ErrOverloaded: the node's queue is full.
	ErrOverloaded = errors.New("overloaded")
	// ErrNoLeader: the cluster has no leader at the moment, or the node cannot reach it.
	ErrNoLeader = errors.New("no leader")
	// ErrNotReady: the node is starting or catching up.
	ErrNotReady = errors.New("not ready")
	// ErrShuttingDown: the node is stopping.
	ErrShuttingDown = errors.New("shutting down")
	// ErrDiskFull: the node is short of disk space.
	ErrDiskFull = errors.New("disk full")
	// ErrTooLarge: a value, a batch or a transaction is over a limit; Error.Limit is that limit.
	ErrTooLarge = errors.New("too large")
	// ErrBadRequest: the server, or this package before it, refuses the request as it is.
	ErrBadRequest = errors.New("bad request")
	// ErrUnauthenticated and ErrForbidden: the token is missing or unknown, or may not do this.
	ErrUnauthenticated = errors.New("unauthenticated")
	ErrForbidden       = errors.New("forbidden")
	// ErrNotKonsul: the answer is not one of Konsul's API. After a write without an
	// error status it is ErrOutcomeUnknown, too.
	ErrNotKonsul = errors.New("not Konsul's answer")
)

// Codes made by this package; all others are the server's.
const (
	codeBadRequest     = "bad_request"
	codeUnreachable    = "unreachable"
	codeConnectionLost = "connection_lost"
	codeOutcomeUnknown = "outcome_unknown"
)

// codes says which sentinels a code stands for, and whether it means that nothing was
// applied and that the same request may succeed later (http-api: 429 and 503).
var codes = map[string]struct {
	sentinels  []error
	notApplied bool
}{
	"key_not_found":     {is(ErrNotFound), false},
	"service_not_found": {is(ErrServiceNotFound, ErrNotFound), false},
	"service_expired":   {is(ErrServiceExpired, ErrNotFound), false},
	"session_not_found": {is(ErrSessionNotFound, ErrNotFound), false},
	"check_not_found":   {is(ErrCheckNotFound, ErrNotFound), false},
	"not_found":         {is(ErrNotFound), false},
	"member_not_found":  {is(ErrNotFound), false},
	"cas_conflict":      {is(ErrCASConflict), false},
	"exists":            {is(ErrCASConflict), false}, // the condition was that it does not
	"lock_held":         {is(ErrLockHeld), false},
	"lock_delay":        {is(ErrLockDelay), false},
	"not_holder":        {is(ErrNotHolder), false},
	"limit_reached":     {is(ErrLimitReached), false},
	"compacted":         {is(ErrCompacted), false},
	"reset":             {is(ErrReset), false},
	"too_large":         {is(ErrTooLarge), false},
	"unauthenticated":   {is(ErrUnauthenticated), false},
	"forbidden":         {is(ErrForbidden), false},
	codeBadRequest:      {is(ErrBadRequest), false},
	codeOutcomeUnknown:  {is(ErrOutcomeUnknown), false},
	codeUnreachable:     {is(ErrUnreachable), true},
	"overloaded":        {is(ErrOverloaded), true},
	"no_leader":         {is(ErrNoLeader), true},
	"not_ready":         {is(ErrNotReady), true},
	"shutting_down":     {is(ErrShuttingDown), true},
	"disk_full":         {is(ErrDiskFull), true},
	"not_formed":        {is(ErrNotReady), true},
	"transfer_failed":   {nil, true},
}

func is(sentinels ...error) []error { return sentinels }

// Error is a request that failed: the server's answer, or why there is none.
type Error struct {
	// Status is the HTTP status; 0 = no answer, or one from inside a watch.
	Status int
	// Code is the machine-readable reason, as in the HTTP API, or "unreachable"
	// (nothing was sent) or "connection_lost" (a read without an answer).
	Code string
	// Message is for people.
	Message string
	// ModifyIndex is the key's current one, for cas_conflict and what a lock refuses; 0 = the key is not there.
	ModifyIndex uint64
	// Limit is the limit that was passed, for too_large and limit_reached.
	Limit int64
	// OldestIndex is the oldest index that can be read, for compacted.
	OldestIndex uint64
	// Session is who holds the key, for lock_held and not_holder; "" = nobody.
	Session string
	// Wait is how long nobody may acquire the key still, for lock_delay.
	Wait time.Duration
	// Op is which operation of a transaction failed; -1 = not about one.
	Op int
	// Address is the node that answered, or did not.
	Address string
	// RetryAfter is how long the server asks to wait; 0 = it does not say.
	RetryAfter time.Duration

	cause   error
	write   bool
	foreign bool // ErrNotKonsul
	partly  bool // a part of it was applied, whatever the code says
	told    bool // Message says what cause is
}

// Error says what happened, without the address: callers know what they asked.
func (e *Error) Error() string {
	text := e.Message
	if text == "" {
		text = strings.ReplaceAll(e.Code, "_", " ")
	}
	if e.Status != 0 {
		text += fmt.Sprintf(" (%s, HTTP %d)", e.Code, e.Status)
	}
	if e.cause != nil && !e.told {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap gives the network's or the context's error, if there was one.
func (e *Error) Unwrap() error { return e.cause }

// Is matches the sentinels of this package.
func (e *Error) Is(target error) bool {
	kind := codes[e.Code]
	switch target {
	case ErrNotKonsul:
		return e.foreign
	case ErrNotApplied:
		return kind.notApplied && !e.partly
	case ErrOutcomeUnknown:
		return e.Code == codeOutcomeUnknown || e.write && e.Status >= 500 && !kind.notApplied
	default:
		return slices.Contains(kind.sentinels, target)
	}
}

// removed: the node says that it was taken out of its cluster, which no waiting
// changes. The API has no code of its own for it.
func (e *Error) removed() bool {
	return errors.Is(e, ErrNotReady) && strings.Contains(e.Message, "removed from the cluster")
}

// IsNotFound reports whether what was asked for is not there: a key, a service (or it has
// expired), a session, a check, a route.
func IsNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

// IsLockHeld reports whether another session holds the key.
func IsLockHeld(err error) bool { return errors.Is(err, ErrLockHeld) }

// IsCASConflict reports whether a condition on a modify index did not hold.
func IsCASConflict(err error) bool { return errors.Is(err, ErrCASConflict) }

// IsUnknownOutcome reports whether a write may or may not have been applied.
func IsUnknownOutcome(err error) bool { return errors.Is(err, ErrOutcomeUnknown) }

// IsNotApplied reports whether a write was certainly not applied and may be tried again.
func IsNotApplied(err error) bool { return errors.Is(err, ErrNotApplied) }

// IsCompacted reports whether an index is older than the history.
func IsCompacted(err error) bool { return errors.Is(err, ErrCompacted) }

// IsReset reports whether the data was replaced under a watch.
func IsReset(err error) bool { return errors.Is(err, ErrReset) }

// IsUnreachable reports whether no connection could be made.
func IsUnreachable(err error) bool { return errors.Is(err, ErrUnreachable) }

// badRequest is a request that this package refuses to send.
func badRequest(format string, args ...any) *Error {
	return &Error{Code: codeBadRequest, Message: fmt.Sprintf(format, args...), Op: -1}
}

// errorBody is the JSON of an error answer.
type errorBody struct {
	Error       string `json:"error"`
	Code        string `json:"code"`
	ModifyIndex uint64 `json:"modify_index"`
	Limit       int64  `json:"limit"`
	OldestIndex uint64 `json:"oldest_index"`
	Op          *int   `json:"op"`
	Session     string `json:"session"`
	// Wait is decoded leniently: an error answer must not fail for its details.
	Wait json.RawMessage `json:"wait"`
}

// decodeError makes an *Error of an error answer; what is not the server's JSON (a
// proxy's page) keeps its status and gets the status text as its message.
func decodeError(status int, header http.Header, body []byte) *Error {
	var b errorBody
	e := &Error{Status: status, Op: -1, RetryAfter: retryAfter(header)}
	if json.Unmarshal(body, &b) != nil || b.Code == "" {
		e.Code, e.foreign = fmt.Sprintf("http_%d", status), true
		e.Message = http.StatusText(status)
		return e
	}
	e.Code, e.Message = b.Code, b.Error
	e.ModifyIndex, e.Limit, e.OldestIndex = b.ModifyIndex, b.Limit, b.OldestIndex
	e.Session = b.Session
	var wait duration
	if json.Unmarshal(b.Wait, &wait) == nil {
		e.Wait = time.Duration(wait)
	}
	if b.Op != nil {
		e.Op = *b.Op
	}
	return e
}

// retryAfter reads the header's seconds; the date form is not used by Konsul.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
