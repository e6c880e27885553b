package api

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// defaultLockDelay is how long the keys of a lost session stay free, unless it says so
// itself: its holder must notice first, and finish what it was about to write.
const defaultLockDelay = 15 * time.Second

var behaviors = map[command.SessionCreate_Behavior]string{
	command.SessionCreate_RELEASE: "release", command.SessionCreate_DELETE: "delete",
}

// sessionCreate is POST /sessions.
func (c *call) sessionCreate() error {
	if err := c.query.done(); err != nil {
		return err
	}
	create, err := c.readSession()
	if err != nil {
		return err
	}
	if create.Id, err = c.newSessionID(); err != nil {
		return err
	}
	res, err := c.propose(command.Type_TYPE_SESSION_CREATE, create)
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"id":`, create.Id)
	c.out = appendDuration(c.out, `,"ttl":`, time.Duration(create.Ttl))
	c.out = appendUint(c.out, `,"modify_index":`, res.Index)
	c.out = append(c.out, '}')
	return c.json(http.StatusCreated)
}

func (c *call) readSession() (*command.SessionCreate, error) {
	create := &command.SessionCreate{Node: c.s.node.NodeID(), LockDelay: int64(defaultLockDelay)}
	if c.r.ContentLength == 0 {
		return create, nil
	}
	r, err := c.readJSON("session", maxAdminBody)
	if err != nil {
		return nil, err
	}
	err = r.Object(func(field []byte) (err error) {
		switch string(field) {
		case "ttl":
			create.Ttl, err = readDuration(r, "ttl")
		case "lock_delay":
			create.LockDelay, err = readDuration(r, "lock_delay")
		case "behavior":
			var text string
			if text, err = r.String(); err == nil {
				create.Behavior, err = behaviorOf(text)
			}
		case "name":
			if create.Name, err = r.String(); err == nil && create.Name != "" {
				err = checkName("name", create.Name)
			}
		default:
			return r.Unknown(field)
		}
		return err
	})
	if err == nil {
		err = r.End()
	}
	return create, err
}

func behaviorOf(text string) (command.SessionCreate_Behavior, error) {
	for b, name := range behaviors {
		if name == text {
			return b, nil
		}
	}
	return 0, badRequest("behavior must be release or delete")
}

// newSessionID makes a random id. With an idempotency key it follows from that key
// alone: the same request again must be the same command, from whichever node it comes.
func (c *call) newSessionID() (string, error) {
	idem, err := c.idempotencyKey()
	if err != nil {
		return "", err
	}
	var id [16]byte
	if idem == "" {
		rand.Read(id[:])
	} else {
		sum := sha256.Sum256([]byte("konsul session " + idem))
		copy(id[:], sum[:])
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), nil
}

// sessionRenew is PUT /sessions/{id}/renew.
func (c *call) sessionRenew() error {
	id, err := c.pathName("session", "session id")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	res, err := c.propose(command.Type_TYPE_SESSION_RENEW, &command.SessionRenew{Id: id})
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"message":"session renewed","id":`, id)
	c.out = append(appendRenewed(c.out, res), '}')
	return c.json(http.StatusOK)
}

// sessionDestroy is DELETE /sessions/{id}.
func (c *call) sessionDestroy() error {
	id, err := c.pathName("session", "session id")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	res, err := c.propose(command.Type_TYPE_SESSION_DESTROY, &command.SessionDestroy{Id: id})
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"message":"session destroyed","id":`, id)
	c.out = appendUint(c.out, `,"modify_index":`, res.Index)
	c.out = append(c.out, '}')
	return c.json(http.StatusOK)
}

// sessionGet is GET /sessions/{id}.
func (c *call) sessionGet() error {
	id, err := c.pathName("session", "session id")
	if err != nil {
		return err
	}
	v, err := c.sessionView()
	if err != nil {
		return err
	}
	defer v.Close()
	s, deadline, err := v.Session(id)
	if err != nil {
		return err
	}
	c.out = c.appendSession(c.out[:0], s, deadline)
	return c.json(http.StatusOK)
}

// sessionList is GET /sessions.
func (c *call) sessionList() error {
	v, err := c.sessionView()
	if err != nil {
		return err
	}
	defer v.Close()
	c.out = append(c.out[:0], `{"sessions":[`...)
	n := 0
	err = v.Sessions(func(s *record.Session, deadline int64) error {
		c.out = c.appendSession(append(c.out, comma(n)...), s, deadline)
		n++
		return c.pushJSON()
	})
	if err != nil {
		return err
	}
	c.out = append(c.out, `]}`...)
	return c.endJSON()
}

// sessionView opens the version to read sessions from. Nothing tells of their
// changes, so such a read does not block: watch the keys they hold.
func (c *call) sessionView() (View, error) {
	rr, err := c.readRequest()
	if err != nil {
		return nil, err
	}
	if rr.blocking {
		return nil, badRequest("parameter index is not for this endpoint")
	}
	if err := c.query.done(); err != nil {
		return nil, err
	}
	return c.view(&rr, fsm.Filter{})
}

func (c *call) appendSession(dst []byte, s *record.Session, deadline int64) []byte {
	dst = appendString(dst, `{"id":`, s.Id)
	dst = appendString(dst, `,"name":`, s.Name)
	dst = appendString(dst, `,"node":`, s.Node)
	dst = appendDuration(dst, `,"ttl":`, time.Duration(s.Ttl))
	dst = c.appendExpiry(dst, deadline)
	dst = appendString(dst, `,"behavior":`, behaviors[command.SessionCreate_Behavior(s.Behavior)])
	dst = appendDuration(dst, `,"lock_delay":`, time.Duration(s.LockDelay))
	dst = appendUint(dst, `,"held":`, s.Held)
	dst = appendUint(dst, `,"create_index":`, s.CreateIndex)
	dst = appendUint(dst, `,"modify_index":`, s.ModifyIndex)
	return append(dst, '}')
}
