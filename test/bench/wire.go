package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Load and backend of the cost of a request. They share the cores with Envoy, so
// each is one thread and a handful of system calls a request: net/http at both
// ends would cost more than what is measured, and hide it.

// wireBackend answers each request head with the same 200.
type wireBackend struct {
	listener *net.TCPListener
	ended    atomic.Bool
	done     chan struct{}
}

var (
	body       = bytes.Repeat([]byte("x"), 128)
	wireAnswer = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s", len(body), body)
)

func startWireBackend() (*wireBackend, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	b := &wireBackend{listener: l, done: make(chan struct{})}
	file, err := l.File()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	go func() {
		defer close(b.done)
		defer file.Close()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		b.serve(int(file.Fd()))
	}()
	return b, nil
}

func (b *wireBackend) addr() string { return b.listener.Addr().String() }

func (b *wireBackend) stop() {
	b.ended.Store(true)
	<-b.done
	_ = b.listener.Close() // nothing is under way
}

func (b *wireBackend) serve(listener int) {
	poll, err := newPoll()
	if err != nil {
		return
	}
	defer unix.Close(poll.fd)
	_ = unix.SetNonblock(listener, true)
	_ = poll.add(listener)
	open := map[int]int{} // how much of a head has come, by its end
	buf := make([]byte, 16<<10)
	for !b.ended.Load() {
		for _, ready := range poll.wait(100) {
			fd := int(ready.Fd)
			if fd == listener {
				if c, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC); err == nil {
					_ = unix.SetsockoptInt(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
					_ = poll.add(c)
					open[c] = 0
				}
				continue
			}
			n, err := unix.Read(fd, buf)
			if n <= 0 && !errors.Is(err, unix.EAGAIN) {
				unix.Close(fd)
				delete(open, fd)
				continue
			}
			// Envoy writes a head at once, and sends no second before the answer.
			if n >= 4 && bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				_, _ = unix.Write(fd, wireAnswer)
			}
		}
	}
	for fd := range open {
		unix.Close(fd)
	}
}

type poll struct {
	fd     int
	events []unix.EpollEvent
}

func newPoll() (*poll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &poll{fd: fd, events: make([]unix.EpollEvent, 64)}, err
}

func (p *poll) add(fd int) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (p *poll) wait(millis int) []unix.EpollEvent {
	for {
		n, err := unix.EpollWait(p.fd, p.events, millis)
		if err == nil {
			return p.events[:n]
		}
		if !errors.Is(err, unix.EINTR) { // Go interrupts its threads now and then
			return nil
		}
	}
}

// wireLoad keeps connections to one address, each with a request under way.
type wireLoad struct {
	request []byte
	poll    *poll
	conns   map[int]*wireConn
	buf     []byte
}

type wireConn struct {
	began time.Time
	got   []byte
}

func newWireLoad(address string, connections int, request string) (*wireLoad, error) {
	to, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	p, err := newPoll()
	if err != nil {
		return nil, err
	}
	l := &wireLoad{request: []byte(request), poll: p, conns: map[int]*wireConn{}, buf: make([]byte, 16<<10)}
	for range connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			l.conns[fd] = &wireConn{}
			err = errors.Join(
				unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}),
				unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
				unix.SetNonblock(fd, true), p.add(fd))
		}
		if err != nil {
			l.close()
			return nil, fmt.Errorf("connect to %s: %w", address, err)
		}
	}
	return l, nil
}

func (l *wireLoad) close() {
	for fd := range l.conns {
		unix.Close(fd)
	}
	unix.Close(l.poll.fd)
}

// wireResult is what one round saw.
type wireResult struct {
	took    []time.Duration // sorted
	elapsed time.Duration
}

func (r *wireResult) at(q float64) time.Duration { return r.took[int(q*float64(len(r.took)-1))] }

func (r *wireResult) perSecond() float64 { return float64(len(r.took)) / r.elapsed.Seconds() }

// run for d: each connection asks again as soon as it is answered. An answer that
// is not a 200 is an error.
func (l *wireLoad) run(d time.Duration) (*wireResult, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &wireResult{took: make([]time.Duration, 0, 1<<16)}
	began := time.Now()
	for fd, c := range l.conns {
		if err := l.ask(fd, c); err != nil {
			return nil, err
		}
	}
	for under := len(l.conns); under > 0; {
		ready := l.poll.wait(5000)
		if len(ready) == 0 {
			return nil, errors.New("no answer within 5 s")
		}
		for _, e := range ready {
			fd := int(e.Fd)
			c := l.conns[fd]
			whole, err := l.read(fd, c)
			if err != nil {
				return nil, err
			}
			if !whole {
				continue
			}
			now := time.Now()
			r.took = append(r.took, now.Sub(c.began))
			if now.Sub(began) >= d {
				under--
				continue
			}
			if err := l.ask(fd, c); err != nil {
				return nil, err
			}
		}
	}
	r.elapsed = time.Since(began)
	slices.Sort(r.took)
	return r, nil
}

func (l *wireLoad) ask(fd int, c *wireConn) error {
	c.began, c.got = time.Now(), c.got[:0]
	if _, err := unix.Write(fd, l.request); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	return nil
}

// read reports whether the answer is whole.
func (l *wireLoad) read(fd int, c *wireConn) (bool, error) {
	n, err := unix.Read(fd, l.buf)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	if n <= 0 {
		return false, fmt.Errorf("the connection was closed: %w", err)
	}
	c.got = append(c.got, l.buf[:n]...)
	status, whole, err := parseAnswer(c.got)
	if whole && status != 200 {
		return false, fmt.Errorf("answered %.300q", c.got)
	}
	return whole, err
}

// parseAnswer reads an answer of HTTP/1.1, which must tell its length or be
// chunked in one piece; not whole: there is more to come.
func parseAnswer(b []byte) (status int, whole bool, err error) {
	head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return 0, false, nil
	}
	if len(head) < 12 || !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		return 0, false, fmt.Errorf("no answer of HTTP/1.1: %.100q", b)
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, false, fmt.Errorf("no status: %.100q", b)
	}
	const field = "content-length: "
	i := bytes.Index(head, []byte(field))
	if i < 0 {
		return status, bytes.HasSuffix(body, []byte("0\r\n\r\n")), nil
	}
	text, _, _ := bytes.Cut(head[i+len(field):], []byte("\r\n"))
	length, err := strconv.Atoi(string(text))
	return status, len(body) >= length, err
}
