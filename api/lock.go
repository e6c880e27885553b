package api

import (
	"fmt"
	"net/http"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
)

// takeLock makes a put an acquisition or a release, if the request says so.
func (c *call) takeLock(op *command.Op) error {
	acquire, acquires := c.query.text("acquire")
	release, releases := c.query.text("release")
	switch {
	case acquires && releases:
		return badRequest("parameters acquire and release exclude each other")
	case acquires:
		op.Kind, op.Session = command.Op_ACQUIRE, acquire
		return checkName("parameter acquire", acquire)
	case releases:
		op.Kind, op.Session = command.Op_RELEASE, release
		return checkName("parameter release", release)
	}
	return nil
}

// putMessages say what a put has done.
var putMessages = map[command.Op_Kind]string{
	command.Op_SET: "key set", command.Op_ACQUIRE: "lock acquired", command.Op_RELEASE: "lock released",
}

// appendWritten appends what a put, an acquisition or a release made of the entry.
func appendWritten(dst []byte, r *command.OpResult) []byte {
	dst = appendUint(dst, `,"modify_index":`, r.GetModifyIndex())
	dst = appendUint(dst, `,"create_index":`, r.GetCreateIndex())
	return appendLock(dst, r)
}

// locked is what can be held.
type locked interface {
	GetLockIndex() uint64
	GetSession() string
}

// appendLock appends the fencing token, and who holds the key, of one that was ever held.
func appendLock(dst []byte, kv locked) []byte {
	if n := kv.GetLockIndex(); n != 0 {
		dst = appendUint(dst, `,"lock_index":`, n)
	}
	if s := kv.GetSession(); s != "" {
		dst = appendString(dst, `,"session":`, s)
	}
	return dst
}

// refusedByRegistry is refused for services, checks, sessions and locks.
func refusedByRegistry(res *command.Result) error {
	switch res.Code {
	case command.Result_LOCK_HELD:
		return lockFailure("lock_held", res, fmt.Sprintf("the key is held by session %s", res.Session))
	case command.Result_LOCK_DELAY:
		return lockDelay(res)
	case command.Result_NOT_HOLDER:
		text := "the session does not hold the key: nobody does"
		if res.Session != "" {
			text = fmt.Sprintf("the session does not hold the key: session %s does", res.Session)
		}
		return lockFailure("not_holder", res, text)
	case command.Result_SESSION_NOT_FOUND:
		return persistence.ErrSessionNotFound
	case command.Result_SERVICE_NOT_FOUND:
		return persistence.ErrServiceNotFound
	case command.Result_SERVICE_EXPIRED:
		return persistence.ErrServiceExpired
	case command.Result_CHECK_NOT_FOUND:
		return errCheckNotFound
	case command.Result_EXISTS:
		return &failure{status: http.StatusConflict, code: "exists", text: "there is a session with this id"}
	case command.Result_LIMIT:
		return &failure{
			status: http.StatusConflict, code: "limit_reached",
			text:    fmt.Sprintf("the session holds as many keys as it may: %d", res.Limit),
			numbers: []number{{"limit", res.Limit}},
		}
	}
	return fmt.Errorf("result code %v", res.Code)
}

func lockFailure(code string, res *command.Result, text string) *failure {
	return &failure{
		status: http.StatusConflict, code: code, text: text, session: res.Session,
		numbers: []number{{"modify_index", res.ModifyIndex}},
	}
}

// lockDelay: the former holder may not know yet that it is none any more.
func lockDelay(res *command.Result) *failure {
	wait := (time.Duration(res.Wait) + time.Millisecond - 1).Truncate(time.Millisecond)
	f := lockFailure("lock_delay", res, fmt.Sprintf("the key's last holder was lost a moment ago: nobody may hold it for %v more", wait))
	f.wait = wait
	f.retryAfter = max(1, int((wait+time.Second-1)/time.Second))
	return f
}
