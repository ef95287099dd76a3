package testbed

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// Wire is a backend that trusts whoever is in front of it: it takes requests
// apart as they come, as many as there are, and answers each with its request
// line's target. So what was smuggled past the gateway is a request here.
type Wire struct {
	listener net.Listener

	mu      sync.Mutex
	seen    []WireRequest
	garbage []string
}

// WireRequest is a request as it came. Case is its header x-case.
type WireRequest struct {
	Method, Target, Host, Case string
	Header                     http.Header
	Body                       string
}

// StartWire serves on a port of its own until the spec ends. Every answer tells
// what a careless backend would of itself.
func StartWire() *Wire {
	GinkgoHelper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	w := &Wire{listener: l}
	DeferCleanup(l.Close)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go w.serve(conn)
		}
	}()
	return w
}

// Port that it listens on.
func (w *Wire) Port() int { return w.listener.Addr().(*net.TCPAddr).Port }

func (w *Wire) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		if _, err := in.Peek(1); err != nil {
			return
		}
		r, err := http.ReadRequest(in)
		if err != nil {
			rest, _ := in.Peek(in.Buffered())
			w.mu.Lock()
			w.garbage = append(w.garbage, fmt.Sprintf("%v, before %q", err, rest))
			w.mu.Unlock()
			return
		}
		body, _ := io.ReadAll(r.Body) // cut off: what there was of it
		w.mu.Lock()
		w.seen = append(w.seen, WireRequest{r.Method, r.RequestURI, r.Host, r.Header.Get("X-Case"), r.Header, string(body)})
		w.mu.Unlock()
		answer := r.RequestURI + "\n"
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nServer: Careless/1.2.3 (Unix)\r\nX-Powered-By: PHP/5.2\r\nX-Envoy-Upstream-Service-Time: 7\r\n"+
			"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	}
}

// Seen are the requests of a case.
func (w *Wire) Seen(name string) []WireRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []WireRequest
	for _, r := range w.seen {
		if r.Case == name {
			out = append(out, r)
		}
	}
	return out
}

// Strange is what came that no case accounts for: bytes that are no request, and
// requests without a case.
func (w *Wire) Strange() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := append([]string(nil), w.garbage...)
	for _, r := range w.seen {
		if r.Case == "" {
			out = append(out, fmt.Sprintf("%s %s of %s", r.Method, r.Target, r.Host))
		}
	}
	return out
}

// Bytes sends bytes to the HTTP listener as they are, and returns all that comes
// back until the gateway closes the connection, or has been silent for patience.
func (w *World) Bytes(sent string, patience time.Duration) []Reply {
	GinkgoHelper()
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", w.HTTP), 2*time.Second)
	Expect(err).NotTo(HaveOccurred())
	defer conn.Close()
	_, _ = io.WriteString(conn, sent) // it may have been closed in between
	var got bytes.Buffer
	buf := make([]byte, 16<<10)
	for {
		Expect(conn.SetReadDeadline(time.Now().Add(patience))).To(Succeed())
		n, err := conn.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			break
		}
	}
	var out []Reply
	for in := bufio.NewReader(&got); ; {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return out
		}
		b, err := io.ReadAll(res.Body)
		out = append(out, Reply{Status: res.StatusCode, Body: string(b), Header: res.Header, Err: err})
	}
}

// Lines joins lines of a request's head, with the empty one at its end.
func Lines(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }
