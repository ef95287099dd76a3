package testbed

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
)

// Backend is an echo backend that remembers what reached it. Beyond what echo
// does, .../hang never answers, and .../upload remembers each body by ?id=.
type Backend struct {
	echo echo.Server
	http *http.Server
	addr *net.TCPAddr

	mu      sync.Mutex
	paths   map[string]int
	uploads map[string]time.Time
	tls     *tls.ConnectionState
	before  func(*http.Request) // nil: nothing is done before a request is served
}

// StartBackend serves HTTP/1.1 and HTTP/2 with prior knowledge on a port of its
// own until the spec ends.
func StartBackend(name string) *Backend {
	GinkgoHelper()
	return startBackend(name, nil)
}

// StartTLSBackend serves HTTP/1.1 and HTTP/2 over TLS.
func StartTLSBackend(name string, conf *tls.Config) *Backend {
	GinkgoHelper()
	conf = conf.Clone()
	conf.NextProtos = []string{"h2", "http/1.1"}
	return startBackend(name, conf)
}

func startBackend(name string, secure *tls.Config) *Backend {
	GinkgoHelper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	b := &Backend{
		echo: echo.Server{Name: name, Interval: 5 * time.Millisecond},
		addr: l.Addr().(*net.TCPAddr), paths: map[string]int{}, uploads: map[string]time.Time{},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP2(true)
	b.http = &http.Server{
		Handler: b, Protocols: protocols, ReadHeaderTimeout: 5 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	var sock net.Listener = stampedListener{l}
	if secure != nil {
		sock = tls.NewListener(sock, secure)
		b.http.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // handshakes that are to fail
	}
	go func() { _ = b.http.Serve(sock) }() // ends with Close
	DeferCleanup(b.http.Close)
	return b
}

type connKey struct{}

// Port that it listens on.
func (b *Backend) Port() int { return b.addr.Port }

func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.paths[r.URL.Path]++
	b.tls = r.TLS
	before := b.before
	b.mu.Unlock()
	if before != nil {
		before(r)
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/hang"):
		<-r.Context().Done()
	case strings.HasSuffix(r.URL.Path, "/upload"):
		b.upload(w, r)
	default:
		b.echo.ServeHTTP(w, r)
	}
}

// upload reads a body and remembers when its last byte had come.
func (b *Backend) upload(w http.ResponseWriter, r *http.Request) {
	id, buf, total := r.URL.Query().Get("id"), make([]byte, 4096), 0
	conn, _ := r.Context().Value(connKey{}).(*stamped)
	for {
		n, err := r.Body.Read(buf)
		if total += n; n > 0 {
			at := time.Now()
			if conn != nil && r.ProtoMajor == 1 {
				at = conn.lastByte()
			}
			b.mu.Lock()
			b.uploads[id] = at
			b.mu.Unlock()
		}
		if err != nil {
			if err == io.EOF {
				fmt.Fprintf(w, "%d bytes\n", total)
			}
			return
		}
	}
}

// Hits counts the requests whose path begins with prefix.
func (b *Backend) Hits(prefix string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for path, hits := range b.paths {
		if strings.HasPrefix(path, prefix) {
			n += hits
		}
	}
	return n
}

// CloseAfterAnswer has it answer no second request on a connection.
func (b *Backend) CloseAfterAnswer() { b.http.SetKeepAlivesEnabled(false) }

// LastTLS is how the last request came, nil for plain text.
func (b *Backend) LastTLS() *tls.ConnectionState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tls
}

// LastUpload is when the last byte of an upload came.
func (b *Backend) LastUpload(id string) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.uploads[id]
}
