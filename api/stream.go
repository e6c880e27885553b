package api

import (
	"fmt"
	"net/http"
	"time"
)

// chunk is how much of a streamed answer is gathered before it is sent, in bytes.
const chunk = 32 << 10

// begin sends the head of a streamed answer. What c.out gathers afterwards goes out
// with writeOut.
func (c *call) begin(contentType []string) {
	c.w.Header()["Content-Type"] = contentType
	c.status = http.StatusOK
	c.w.WriteHeader(http.StatusOK)
}

// writeOut sends what has been gathered. Every piece has its own deadline: a client
// that reads slowly is served, one that does not read is cut off.
func (c *call) writeOut() error {
	rc := http.NewResponseController(c.w)
	_ = rc.SetWriteDeadline(time.Now().Add(c.s.cfg.SendTimeout))
	_, err := c.w.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}

// pushJSON is push for an answer whose head goes out with its first piece: until
// then an error can still be an error, and a small answer has its length.
func (c *call) pushJSON() error {
	if len(c.out) < chunk {
		return nil
	}
	if c.status == 0 {
		c.begin(contentJSON)
	}
	return c.writeOut()
}

// endJSON sends the rest.
func (c *call) endJSON() error {
	if c.status == 0 {
		return c.json(http.StatusOK)
	}
	c.out = append(c.out, '\n')
	return c.writeOut()
}
