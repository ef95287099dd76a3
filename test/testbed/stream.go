package testbed

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// Stream is a request that stays open. It is read until it ends.
type Stream struct {
	Kind string
	// ID is the ?id= of an upload.
	ID string
	// Status of the answer; 0 until there is one.
	Status func() int

	mu     sync.Mutex
	status int
	first  time.Time
	last   time.Time
	gap    time.Duration
	gapAt  time.Time
	bytes  int
	end    time.Time
	err    error

	done   chan struct{}
	cancel context.CancelFunc
	conn   atomic.Pointer[stamped]
	// lastByte, if set, knows better when the last byte went through: an upload's
	// is where it arrives.
	lastByte func() time.Time
}

func newStream(kind string, cancel context.CancelFunc) *Stream {
	s := &Stream{Kind: kind, done: make(chan struct{}), cancel: cancel}
	s.Status = func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.status
	}
	DeferCleanup(cancel)
	return s
}

// Done is closed when the stream has ended.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Open reports whether it has begun and not ended.
func (s *Stream) Open() bool {
	select {
	case <-s.done:
		return false
	default:
		return s.Status() == 200 || s.Status() == 101
	}
}

// SharesConnection reports whether both go over one connection.
func (s *Stream) SharesConnection(o *Stream) bool {
	return s.conn.Load() != nil && s.conn.Load() == o.conn.Load()
}

// Close ends it from this side.
func (s *Stream) Close() { s.cancel() }

// Bytes that went through.
func (s *Stream) Bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Last is when the last byte came.
func (s *Stream) Last() time.Time {
	if s.lastByte != nil {
		return s.lastByte()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// End is when the client saw the end.
func (s *Stream) End() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// LongestGap between two bytes, and when it was over. A stream that is fed all
// the time and has none was not disturbed.
func (s *Stream) LongestGap() (time.Duration, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gap, s.gapAt
}

// String says how it went.
func (s *Stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%s: status %d, %d bytes, longest gap %s", s.Kind, s.status, s.bytes, s.gap)
	if !s.end.IsZero() {
		text += fmt.Sprintf(", ended %s: %v", s.end.Format("15:04:05.000"), s.err)
	}
	return text
}

func (s *Stream) began(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *Stream) took(n int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && at.Sub(s.last) > s.gap {
		s.gap, s.gapAt = at.Sub(s.last), at
	}
	if s.first.IsZero() {
		s.first = at
	}
	s.last, s.bytes = at, s.bytes+n
}

func (s *Stream) ended(err error) {
	s.mu.Lock()
	s.end, s.err = time.Now(), err
	s.mu.Unlock()
	close(s.done)
}

// read takes everything that r gives. conn tells when it came.
func (s *Stream) read(r io.Reader, conn *stamped) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			s.took(n, conn.lastByte())
		}
		if err != nil {
			s.ended(err)
			return
		}
	}
}

// open makes a request whose answer is a stream.
func (c *Client) open(kind string, r Request) *Stream {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(context.Background())
	s := newStream(kind, cancel)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { s.conn.Store(unwrap(i.Conn)) }})
	req, err := r.build(ctx, c.scheme)
	Expect(err).NotTo(HaveOccurred())
	go func() {
		res, err := c.transport.RoundTrip(req)
		if err != nil {
			s.ended(err)
			return
		}
		defer res.Body.Close()
		s.began(res.StatusCode)
		s.read(res.Body, s.conn.Load())
	}()
	return s
}

func unwrap(c net.Conn) *stamped {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*stamped)
}

// Events opens a stream of server-sent events at path and waits for the answer.
func (c *Client) Events(kind, host, path, token string) *Stream {
	GinkgoHelper()
	return c.EventsWith(kind, Request{Host: host, Path: path, Token: token})
}

// EventsWith is Events with more in the request.
func (c *Client) EventsWith(kind string, r Request) *Stream {
	GinkgoHelper()
	s := c.open(kind, r)
	Eventually(s.Status, "5s", "1ms").ShouldNot(BeZero(), s.String)
	return s
}

// Hang makes a request that the backend never answers. hits tells when it is
// there.
func (c *Client) Hang(host, path, token string, hits func() int) *Stream {
	GinkgoHelper()
	before := hits()
	s := c.open("hanging request", Request{Host: host, Path: path, Token: token})
	Eventually(hits, "5s", "1ms").Should(BeNumerically(">", before), "the hanging request does not reach the backend")
	return s
}

var uploads atomic.Int64

// Upload sends a body without end, a little every 5 ms.
func (w *World) Upload(c *Client, host, path, token string) *Stream {
	GinkgoHelper()
	id := fmt.Sprint(uploads.Add(1))
	body, pipe := io.Pipe()
	s := c.open("upload", Request{Method: http.MethodPost, Host: host, Path: path + "?id=" + id, Token: token, Body: body})
	s.ID, s.lastByte = id, func() time.Time { return w.Backend.LastUpload(id) }
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-s.done:
				_ = pipe.Close() // nobody reads any more
				return
			case <-tick.C:
			}
			if _, err := io.WriteString(pipe, "0123456789abcdef"); err != nil {
				return
			}
		}
	}()
	Eventually(s.Last, "5s", "1ms").ShouldNot(BeZero(), "the upload does not reach the backend")
	return s
}

// WebSocket upgrades a connection of its own in the clear.
func (w *World) WebSocket(host, path, token string) *Stream {
	GinkgoHelper()
	d := &Client{address: fmt.Sprintf("127.0.0.1:%d", w.HTTP)}
	c, err := d.dial(context.Background())
	Expect(err).NotTo(HaveOccurred())
	conn := c.(*stamped)
	s := newStream("websocket", func() { _ = conn.Close() }) // ends the reading
	_, err = io.WriteString(conn, strings.Join([]string{
		"GET " + path + " HTTP/1.1", "Host: " + host, "Authorization: Bearer " + token, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "",
	}, "\r\n"))
	Expect(err).NotTo(HaveOccurred())
	go func() {
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			s.ended(err)
			return
		}
		s.began(res.StatusCode)
		s.read(r, conn)
	}()
	Eventually(s.Status, "5s", "1ms").ShouldNot(BeZero(), s.String)
	return s
}

// AlwaysOpen stands for a stream that is not to be looked at.
func AlwaysOpen() *Stream {
	s := &Stream{Kind: "none", done: make(chan struct{})}
	s.Status = func() int { return 200 }
	return s
}
