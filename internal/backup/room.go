package backup

import "io"

// roomStep is how many bytes are written between two looks at the free space.
const roomStep = 16 << 20

// KeepRoom has room asked, with the directory's path, again and again while a backup is
// saved: its error ends that. To be called before the directory is in use.
func (d *Dir) KeepRoom(room func(dir string) error) { d.room = room }

// whileRoom is w as long as there is room in the directory.
func (d *Dir) whileRoom(w io.Writer) io.Writer {
	if d.room == nil {
		return w
	}
	return WhileRoom(w, func() error { return d.room(d.abs) })
}

// WhileRoom is w, but room is asked before the first byte, and again for every 16 MiB.
func WhileRoom(w io.Writer, room func() error) io.Writer { return &roomWriter{w: w, room: room} }

type roomWriter struct {
	w    io.Writer
	room func() error
	left int // how much may be written before the next look
}

func (r *roomWriter) Write(b []byte) (int, error) {
	if r.left <= 0 {
		if err := r.room(); err != nil {
			return 0, err
		}
		r.left = roomStep
	}
	n, err := r.w.Write(b)
	r.left -= n
	return n, err
}
