package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"

	"github.com/neogan74/konsul/client"
)

// explain makes one line of an error: what failed, on what, why, what to do next.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		return err
	}
	code := exitFailed
	if client.IsNotFound(err) {
		code = exitNotFound
	}
	text := Reason(err)
	if next := advice(err); next != "" {
		text += "; " + next
	}
	return &ExitError{Code: code, Err: &explained{text: what + ": " + text, cause: err}}
}

// retryReporter tells a person at a terminal, once, why nothing happens.
func retryReporter(w io.Writer) func(error) {
	if !isTerminal(w) {
		return nil
	}
	var once sync.Once
	return func(err error) {
		once.Do(func() { fmt.Fprintf(w, "konsul: %s; trying again\n", Reason(err)) })
	}
}

// explained has the text for people and still is the error it explains.
type explained struct {
	text  string
	cause error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.cause }

// Reason is why a call of the client failed, on one line, for people.
func Reason(err error) string { return oneLine(reason(err)) }

// reason is the server's text without codes, or the network's without its layers.
func reason(err error) string {
	var e *client.Error
	switch {
	case !errors.As(err, &e):
		return err.Error()
	case client.IsUnreachable(err) && errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("cannot connect to %s: connection refused", e.Address)
	case errors.Is(err, client.ErrNotKonsul) && client.IsUnknownOutcome(err):
		return e.Address + " does not answer like Konsul, and the write may or may not have been applied: is it its API address?"
	case errors.Is(err, client.ErrNotKonsul):
		return e.Address + " does not answer like Konsul: is it its API address?"
	case e.Status != 0 && e.Message != "":
		return e.Message
	}
	return e.Error()
}

// advice says what to do about an error, where there is something to do.
func advice(err error) string {
	var e *client.Error
	errors.As(err, &e)
	switch {
	case errors.Is(err, context.Canceled) && !client.IsUnknownOutcome(err):
		return ""
	case client.IsUnreachable(err) && strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "it speaks http: name it with http://" + e.Address
	case errors.Is(err, client.ErrNotKonsul):
		return ""
	case hungUp(err) && client.IsUnknownOutcome(err):
		return "it may or may not have been applied: read before you try again (or is this the port of Raft, and not of the API?)"
	case hungUp(err):
		return "is it the address of the API, and not of Raft?"
	case client.IsUnreachable(err) && e != nil:
		return fmt.Sprintf("is a node running at %s? Start one with `konsul`, or name another with --http-addr", e.Address)
	case client.IsUnknownOutcome(err):
		return "it may or may not have been applied: read before you try again"
	case client.IsCASConflict(err):
		return "read the key again and decide"
	case e != nil && registryAdvice[e.Code] != "":
		return registryAdvice[e.Code]
	case client.IsCompacted(err):
		return fmt.Sprintf("the history begins at index %d: start there, or read the current state", e.OldestIndex)
	case client.IsReset(err):
		return "read everything again, then watch from there"
	case errors.Is(err, client.ErrNoLeader):
		return "are more than half of the nodes running? See `konsul cluster peers`"
	case errors.Is(err, client.ErrNotReady):
		return "the node is starting or not in a cluster yet: see `konsul cluster status`"
	case errors.Is(err, client.ErrOverloaded), errors.Is(err, client.ErrShuttingDown):
		return "nothing was changed: try again"
	case errors.Is(err, client.ErrDiskFull):
		return "make room on the node's disk; nothing was changed"
	case errors.Is(err, client.ErrUnauthenticated):
		return "give a token with --token or " + envToken
	case errors.Is(err, client.ErrForbidden):
		return "the token may not do this"
	}
	return ""
}

// registryAdvice is advice by the API's code, for services, sessions, locks and members.
var registryAdvice = map[string]string{
	"service_not_found": "see `konsul service list --detail`",
	"service_expired":   "its TTL has passed without a heartbeat: register it again",
	"check_not_found":   "see `konsul service get NAME --json` for its checks",
	"session_not_found": "it was destroyed or has expired: create another with `konsul session create`",
	"lock_held":         "wait for it with `konsul lock`, or see who it is with `konsul session get ID`",
	"lock_delay":        "try again then",
	"not_holder":        "see `konsul kv get KEY --detail` for who holds it",
	"limit_reached":     "release some keys, or use one more session",
	"member_exists":     "give the node another id (raft.node_id), or remove the lost member first with `konsul cluster leave ID`",
}

// hungUp: the other side took the connection and ended it without a word.
func hungUp(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}

func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), ", ")
}
