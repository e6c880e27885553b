package etcdload

import (
	"encoding/binary"
	"fmt"
	"io"
)

// receive reads one frame and does what it asks for. It returns a call whose
// answer is complete, or nil.
func (c *conn) receive() (*call, error) {
	var f frame
	if err := readFrame(c.reader, &f); err != nil {
		return nil, err
	}
	switch f.kind {
	case frameData:
		return c.data(&f)
	case frameHeaders, frameContinuation:
		return c.headers(&f)
	case frameReset:
		cl := c.take(f.stream)
		if cl != nil {
			cl.status, cl.message = 13, "stream reset"
		}
		return cl, nil
	case frameSettings:
		return nil, c.settings(&f)
	case framePing:
		if f.flags&flagAck != 0 {
			return nil, nil
		}
		return nil, c.reply(append(appendFrameHead(nil, len(f.payload), framePing, flagAck, 0), f.payload...))
	case frameWindow:
		if f.stream == 0 && len(f.payload) == 4 {
			c.grow(int64(binary.BigEndian.Uint32(f.payload)))
		}
		return nil, nil
	case frameGoAway:
		return nil, fmt.Errorf("the server goes away: %q", f.payload)
	}
	return nil, nil
}

// grow adds to the window of the connection. Requests fit into one stream's
// initial window, so the windows of streams need no account.
func (c *conn) grow(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window += n
	c.cond.Broadcast()
}

func (c *conn) settings(f *frame) error {
	if f.flags&flagAck != 0 {
		return nil
	}
	for p := f.payload; len(p) >= 6; p = p[6:] {
		if binary.BigEndian.Uint16(p) == settingInitialWindow {
			c.mu.Lock()
			c.initial = int64(binary.BigEndian.Uint32(p[2:]))
			c.cond.Broadcast()
			c.mu.Unlock()
		}
	}
	return c.reply(appendFrameHead(nil, 0, frameSettings, flagAck, 0))
}

func (c *conn) data(f *frame) (*call, error) {
	body, err := f.strip()
	if err != nil {
		return nil, err
	}
	c.unacked += uint32(len(f.payload))
	if c.unacked > largeWindow/4 {
		if err := c.reply(appendWindow(nil, 0, c.unacked)); err != nil {
			return nil, err
		}
		c.unacked = 0
	}
	c.mu.Lock()
	cl := c.pending[f.stream]
	c.mu.Unlock()
	if cl != nil {
		cl.body = append(cl.body, body...)
	}
	if f.flags&flagEndStream != 0 {
		return c.take(f.stream), nil // without trailers: no status
	}
	return nil, nil
}

// headers collects a block, decodes it when it is complete, and ends the call with it if it is the last.
func (c *conn) headers(f *frame) (*call, error) {
	fragment, err := f.strip()
	if err != nil {
		return nil, err
	}
	if f.flags&flagEndHeaders == 0 || f.kind == frameContinuation {
		return nil, io.ErrNoProgress // etcd's headers fit into one frame
	}
	c.status, c.message = -1, ""
	if _, err := c.decoder.Write(fragment); err != nil {
		return nil, err
	}
	if err := c.decoder.Close(); err != nil {
		return nil, err
	}
	if f.flags&flagEndStream == 0 {
		return nil, nil
	}
	cl := c.take(f.stream)
	if cl != nil {
		cl.status, cl.message = c.status, c.message
	}
	return cl, nil
}

// take removes a call from those under way.
func (c *conn) take(stream uint32) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.pending[stream]
	delete(c.pending, stream)
	return cl
}
