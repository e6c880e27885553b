package peer

import (
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// maxPending bounds the bytes that wait for a slow connection.
	maxPending = 8 << 20
	// writeTimeout ends a connection whose other end stopped reading.
	writeTimeout = 10 * time.Second
	// maxBatch bounds one write to the socket.
	maxBatch = 256 << 10
)

// item is a frame waiting to be written. encode appends it; it returns b
// unchanged if the frame is no longer wanted.
type item struct {
	size   int
	encode func(b []byte) []byte
}

// writer coalesces the frames of many goroutines into few writes: whatever
// gathered while the last write was under way goes out with the next.
type writer struct {
	conn net.Conn

	mu      sync.Mutex
	room    *sync.Cond
	wake    *sync.Cond
	pending []item
	bytes   int
	closed  bool
}

func newWriter(conn net.Conn) *writer {
	w := &writer{conn: conn}
	w.room = sync.NewCond(&w.mu)
	w.wake = sync.NewCond(&w.mu)
	return w
}

// put queues a frame. It blocks while maxPending bytes wait, and returns false
// if the writer was closed: the frame will not be written.
func (w *writer) put(it item) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed && w.bytes > 0 && w.bytes+it.size > maxPending {
		w.room.Wait()
	}
	if w.closed {
		return false
	}
	w.pending = append(w.pending, it)
	w.bytes += it.size
	w.wake.Signal()
	return true
}

// add queues a frame without waking the writer, flush does; and without waiting:
// false = there is no room.
func (w *writer) add(it item) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return true // nobody is there to read it
	}
	if w.bytes > 0 && w.bytes+it.size > maxPending {
		return false
	}
	w.pending = append(w.pending, it)
	w.bytes += it.size
	return true
}

// flush wakes the writer.
func (w *writer) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) > 0 {
		w.wake.Signal()
	}
}

// run writes until close is called or a write fails.
func (w *writer) run() error {
	var buf []byte
	var batch []item
	for {
		batch = w.take(batch[:0])
		if batch == nil {
			return ErrClosed
		}
		buf = buf[:0]
		for i := range batch {
			buf = batch[i].encode(buf)
			batch[i] = item{}
			if len(buf) >= maxBatch {
				if err := w.write(buf); err != nil {
					return err
				}
				buf = buf[:0]
			}
		}
		if err := w.write(buf); err != nil {
			return err
		}
		if cap(buf) > 2*maxBatch {
			buf = nil
		}
	}
}

// take waits for frames and swaps the queue with batch; nil means closed.
func (w *writer) take(batch []item) []item {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 && !w.closed {
		for !w.closed && len(w.pending) == 0 {
			w.wake.Wait()
		}
		// Whoever else is ready to run may have a frame too.
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
	}
	if w.closed {
		return nil
	}
	batch, w.pending = w.pending, batch
	w.bytes = 0
	w.room.Broadcast()
	return batch
}

func (w *writer) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := w.conn.Write(b)
	return err
}

func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.pending = nil
	w.mu.Unlock()
	w.room.Broadcast()
	w.wake.Broadcast()
}
