package weights

import (
	"context"
	"io"
)

// meter counts the bytes that an export reads and writes, and ends it when ctx
// does.
type meter struct {
	ctx         context.Context
	report      func(done, total int64)
	done, total int64
}

func (m *meter) add(n int) {
	m.done += int64(n)
	if m.report != nil {
		m.report(m.done, m.total)
	}
}

func (m *meter) reader(r io.Reader) io.Reader { return meteredReader{m, r} }
func (m *meter) writer(w io.Writer) io.Writer { return meteredWriter{m, w} }

type meteredReader struct {
	*meter
	r io.Reader
}

func (r meteredReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.add(n)
	return n, err
}

type meteredWriter struct {
	*meter
	w io.Writer
}

func (w meteredWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.w.Write(p)
	w.add(n)
	return n, err
}
