// Package echo is a backend that shows what reached it: for the demo, for
// rehearsals and for tests.
//
//	any path          JSON of method, path, host and headers
//	.../stream        (or .../events) server-sent events, one each Interval, until the client goes
//	.../ws            upgrades to "websocket" and sends a line each Interval (no framing)
//	.../upload        reads the body to its end and says how many bytes came
//	.../status/CODE   answers CODE
package echo

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Server is an echo backend.
type Server struct {
	// Name is what it says it is.
	Name string
	// Interval between events of streams. Default 10 ms.
	Interval time.Duration
	// Hits counts the requests that reached it.
	Hits atomic.Int64

	http     *http.Server
	listener net.Listener
}

// Request is what the backend saw of a request.
type Request struct {
	Backend string      `json:"backend"`
	Method  string      `json:"method"`
	Host    string      `json:"host"`
	Path    string      `json:"path"`
	Query   string      `json:"query,omitempty"`
	Proto   string      `json:"proto"`
	Headers http.Header `json:"headers"`
}

// Start serves HTTP/1.1 and HTTP/2 with prior knowledge on address.
func (s *Server) Start(address string) error {
	if s.Interval == 0 {
		s.Interval = 10 * time.Millisecond
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("start the %s echo backend: %w", s.Name, err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.listener = l
	s.http = &http.Server{Handler: s, Protocols: protocols, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.http.Serve(l) }() // ends with Close
	return nil
}

// Addr is host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends it and every stream.
func (s *Server) Close() error { return s.http.Close() }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Hits.Add(1)
	switch {
	case strings.HasSuffix(r.URL.Path, "/stream"), strings.HasSuffix(r.URL.Path, "/events"):
		s.stream(w, r)
	case strings.HasSuffix(r.URL.Path, "/ws"):
		s.websocket(w)
	case strings.HasSuffix(r.URL.Path, "/upload"):
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d bytes, %v\n", n, err)
	case strings.Contains(r.URL.Path, "/status/"):
		_, code, _ := strings.Cut(r.URL.Path, "/status/")
		if n, err := strconv.Atoi(code); err == nil && n >= 200 && n < 600 {
			w.WriteHeader(n)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Request{ // a client that went away is no error
			Backend: s.Name, Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery, Proto: r.Proto, Headers: r.Header,
		})
	}
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(w, "data: %d %s\n\n", i, time.Now().UTC().Format(time.RFC3339Nano)); err != nil {
			return
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) websocket(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	gone := make(chan struct{})
	go func() { defer close(gone); _, _ = bufio.NewReader(rw).WriteTo(io.Discard) }()
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	for {
		select {
		case <-gone:
			return
		case <-tick.C:
			if _, err := fmt.Fprintf(conn, "%s\n", time.Now().UTC().Format(time.RFC3339Nano)); err != nil {
				return
			}
		}
	}
}
