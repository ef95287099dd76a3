package testbed

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stamped is a TCP connection that knows when the kernel received what was read
// last (SO_TIMESTAMPNS, see Documentation/networking/timestamping.rst).
type stamped struct {
	*net.TCPConn
	raw  syscall.RawConn
	last atomic.Int64 // Unix time in ns; 0: nothing was read yet
}

func stamp(c *net.TCPConn) (*stamped, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}); err != nil {
		return nil, err
	}
	return &stamped{TCPConn: c, raw: raw}, optErr
}

// Read is recvmsg(2), for the timestamp that comes with it.
func (c *stamped) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var n, oobn int
	var err error
	oob := make([]byte, 64)
	if waitErr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), p, oob, 0)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	}); waitErr != nil {
		return 0, waitErr
	}
	switch {
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Addr: c.RemoteAddr(), Err: err}
	case n == 0:
		return 0, io.EOF
	}
	c.last.Store(received(oob[:oobn]).UnixNano())
	return n, nil
}

// WriteTo and ReadFrom of the embedded connection would read past Read.
func (c *stamped) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

func received(oob []byte) time.Time {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Now()
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now() // a kernel without it: then the reader's time has to do
}

// lastByte is when the last byte that was read had come.
func (c *stamped) lastByte() time.Time {
	if ns := c.last.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// stampedListener stamps what it accepts.
type stampedListener struct{ net.Listener }

func (l stampedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	return stamp(tcp)
}
