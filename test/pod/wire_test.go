//go:build envoy

package pod

import (
	"net"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// How a wire treats what goes over it.
type mood int

const (
	passes  mood = iota
	refuses      // nobody is there
	resets       // connections are cut in the midst of it
	stalls       // nothing comes through, either way, and nobody is told
	mutes        // requests come through, and answers do not: the connection is cut then
)

// wire is a network between a client and a server on this machine.
type wire struct {
	address, to string
	sock        net.Listener

	mu    sync.Mutex
	mood  mood
	conns map[net.Conn]bool
	cut   int // connections that were cut
}

func newWire(to string) *wire {
	GinkgoHelper()
	sock, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	w := &wire{address: sock.Addr().String(), to: to, sock: sock, conns: map[net.Conn]bool{}}
	go w.accept()
	DeferCleanup(func() {
		_ = sock.Close() // nobody waits for it
		w.set(refuses)
	})
	return w
}

// set the mood. What is open is cut when the wire refuses, resets or passes again
// after it had stalled.
func (w *wire) set(m mood) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mood = m
	if m == stalls || m == mutes {
		return
	}
	for c := range w.conns {
		w.reset(c)
	}
}

func (w *wire) reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // RST, if it can be
	}
	_ = c.Close() // it is cut
	delete(w.conns, c)
	w.cut++
}

func (w *wire) now() mood {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mood
}

func (w *wire) accept() {
	for {
		client, err := w.sock.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.to)
		if err != nil || w.now() == refuses {
			_ = client.Close() // nobody is there
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		w.mu.Lock()
		w.conns[client], w.conns[server] = true, true
		w.mu.Unlock()
		go w.copy(server, client, false)
		go w.copy(client, server, true)
	}
}

// copy bytes until either end is gone.
func (w *wire) copy(to, from net.Conn, answers bool) {
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range []net.Conn{to, from} {
			_ = c.Close() // either may be gone
			delete(w.conns, c)
		}
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		for w.now() == stalls {
			time.Sleep(time.Millisecond)
		}
		if w.now() == mutes && answers {
			w.mu.Lock()
			w.reset(to)
			w.mu.Unlock()
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
