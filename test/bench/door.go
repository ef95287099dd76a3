package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// every is the time from the beginning of one request of a poll to the next:
// asking without a pause would take the cores away from what is measured.
const every = time.Millisecond

// nap until t, more exactly than a timer of Go's.
func nap(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // interrupted: the rest
	}
}

// visitor asks for one route on a connection that it keeps.
type visitor struct {
	address string
	request []byte
	conn    net.Conn
	buf     []byte
}

// shot is one request and its answer; status 0: there was none.
type shot struct {
	began, ended time.Time
	status       int
}

func (s shot) open() bool { return s.status == 200 }

func host(route int) string { return fmt.Sprintf("h%d.example.com", route) }

func (w *world) request(route int, path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nhost: " + host(route) + "\r\nuser-agent: bench\r\nauthorization: Bearer " + w.bearer + "\r\n\r\n")
}

func (w *world) visitor(route int) *visitor {
	return &visitor{address: w.door, request: w.request(route, "/x"), buf: make([]byte, 16<<10)}
}

func (v *visitor) close() {
	if v.conn != nil {
		_ = v.conn.Close() // nothing is under way
		v.conn = nil
	}
}

// ask once. A connection that Envoy has closed is made anew for the next time.
func (v *visitor) ask() shot {
	s := shot{began: time.Now()}
	status, err := v.try()
	s.ended = time.Now()
	if err != nil {
		v.close()
		return s
	}
	s.status = status
	return s
}

func (v *visitor) try() (status int, err error) {
	if v.conn == nil {
		if v.conn, err = net.DialTimeout("tcp", v.address, 5*time.Second); err != nil {
			return 0, err
		}
	}
	if err := v.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := v.conn.Write(v.request); err != nil {
		return 0, err
	}
	for got := 0; ; {
		n, err := v.conn.Read(v.buf[got:])
		if err != nil {
			return 0, err
		}
		got += n
		a, whole, err := parseAnswer(v.buf[:got])
		if err != nil || whole {
			return a, err
		}
		if got == len(v.buf) {
			return 0, errors.New("the answer is too long")
		}
	}
}

// until asks until the route is, or is no longer, open. It returns the last
// request with and the first without the other answer.
func (v *visitor) until(open bool, patience time.Duration) (before, then shot, err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		s := v.ask()
		if s.open() == open {
			return before, s, nil
		}
		before = s
		nap(s.began.Add(every))
	}
	return before, then, fmt.Errorf("waited %s for open=%v, the last status was %d: %.60q", patience, open, before.status, v.request)
}

// stream is an open response, and when its last byte came.
type stream struct {
	last time.Time
	done chan struct{}
}

func (w *world) stream(route int) (*stream, error) {
	conn, err := net.DialTimeout("tcp", w.door, 5*time.Second)
	if err != nil {
		return nil, err
	}
	s := &stream{done: make(chan struct{})}
	if _, err := conn.Write(w.request(route, "/x/stream")); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200 ")) {
		return nil, errors.Join(fmt.Errorf("the stream of route %d was answered %.100q", route, buf[:n]), err, conn.Close())
	}
	s.last = time.Now()
	go func() {
		defer close(s.done)
		defer conn.Close()
		for {
			n, err := conn.Read(buf)
			if n > 0 {
				s.last = time.Now()
			}
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}
