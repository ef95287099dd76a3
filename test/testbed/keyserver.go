package testbed

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// KeyServer publishes a key set over HTTPS, when it is up.
type KeyServer struct {
	w     *World
	port  int
	asked atomic.Int64

	mu     sync.Mutex
	answer string
	http   *http.Server
}

// StartKeyServer publishes jwks until the spec ends.
func (w *World) StartKeyServer(jwks string) *KeyServer {
	GinkgoHelper()
	k := &KeyServer{w: w, port: FreePort(), answer: jwks}
	k.Resume()
	DeferCleanup(k.Stop)
	return k
}

// Authority is the certificate that it can be checked by, PEM.
func (w *World) Authority() string { return string(w.certificate.cert) }

// URL of the key set.
func (k *KeyServer) URL() string { return fmt.Sprintf("https://127.0.0.1:%d/jwks", k.port) }

// Asked counts requests.
func (k *KeyServer) Asked() int { return int(k.asked.Load()) }

// Answer something else from now on. "redirect" sends the client elsewhere, "drip"
// sends a byte now and then, "huge" sends no end of bytes, "broken" is an error 500.
func (k *KeyServer) Answer(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer = text
}

// Stop refuses connections.
func (k *KeyServer) Stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.http != nil {
		_ = k.http.Close() // connections that are cut are the point
		k.http = nil
	}
}

// Resume accepts connections again.
func (k *KeyServer) Resume() {
	GinkgoHelper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", k.port))
	Expect(err).NotTo(HaveOccurred())
	s := &http.Server{Handler: k, ReadHeaderTimeout: 5 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{k.w.certificate.pair()}}}
	k.mu.Lock()
	k.http = s
	k.mu.Unlock()
	go func() { _ = s.ServeTLS(l, "", "") }() // ends with Stop
}

func (k *KeyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.asked.Add(1)
	k.mu.Lock()
	answer := k.answer
	k.mu.Unlock()
	switch answer {
	case "redirect":
		http.Redirect(w, r, k.URL()+"/elsewhere", http.StatusFound)
	case "drip":
		endless(w, r, "{", 50*time.Millisecond)
	case "huge":
		endless(w, r, strings.Repeat(" ", 64<<10), 0)
	case "broken":
		http.Error(w, "out of order", http.StatusInternalServerError)
	default:
		_, _ = io.WriteString(w, answer) // a client that went away is no error
	}
}

// endless writes text again and again until the client goes away.
func endless(w http.ResponseWriter, r *http.Request, text string, every time.Duration) {
	for {
		if _, err := io.WriteString(w, text); err != nil {
			return
		}
		w.(http.Flusher).Flush() // net/http's has it
		select {
		case <-r.Context().Done():
			return
		case <-time.After(every):
		}
	}
}
