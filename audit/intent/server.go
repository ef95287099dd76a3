package intent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// Sink makes intents durable, all or none, or says why they are not.
type Sink interface {
	Intend(context.Context, ...audit.RequestEntry) error
}

// Server answers the questions of Envoys.
type Server struct {
	sink Sink
	log  *slog.Logger

	kept, refused atomic.Uint64
	failing       atomic.Bool

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]bool
	listen map[net.Listener]bool
	served sync.WaitGroup
}

// New returns a server that keeps intents in sink.
func New(sink Sink, log *slog.Logger) *Server {
	return &Server{sink: sink, log: log, open: map[net.Conn]bool{}, listen: map[net.Listener]bool{}}
}

// Stats are counts since the start, for metrics.
type Stats struct {
	Kept    uint64 // durable
	Refused uint64 // not, so that the request was answered with 503
}

// Stats returns the present counts.
func (s *Server) Stats() Stats { return Stats{Kept: s.kept.Load(), Refused: s.refused.Load()} }

// ErrStopped is returned by Serve after Stop.
var ErrStopped = errors.New("intents: stopped")

// Serve takes connections of Envoys until Stop, or until the listener fails.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.Join(ErrStopped, l.Close())
	}
	s.listen[l] = true
	s.mu.Unlock()
	for {
		c, err := l.Accept()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.closed {
				return ErrStopped
			}
			return err
		}
		if !s.take(c) {
			return errors.Join(ErrStopped, c.Close())
		}
	}
}

// take a connection, unless the server is stopped.
func (s *Server) take(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open[c] = true
	s.served.Go(func() {
		if err := newConn(s, c).serve(); err != nil {
			s.log.Warn("a connection for intents was closed", "error", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
	})
	return true
}

// Stop ends all connections and waits for what is on its way to the disk.
func (s *Server) Stop() {
	s.mu.Lock()
	s.closed = true
	for l := range s.listen {
		_ = l.Close() // nothing is lost
	}
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.served.Wait()
}

// patience is how long the disk may take: Envoy waits no longer.
const patience = 250 * time.Millisecond

// keep intents. It reports whether they are durable.
func (s *Server) keep(wanted []audit.RequestEntry) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.sink.Intend(ctx, wanted...); err != nil {
		s.refuse(len(wanted), err)
		return false
	}
	s.kept.Add(uint64(len(wanted)))
	if s.failing.Load() && s.failing.Swap(false) {
		s.log.Info("intents of requests are kept again")
	}
	return true
}

func (s *Server) refuse(n int, why error) {
	s.refused.Add(uint64(n))
	if !s.failing.Swap(true) {
		s.log.Error("intents of requests cannot be kept: requests under a Strict policy are refused", "error", why)
	}
}
