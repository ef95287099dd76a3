package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	// maxWait bounds one answer to a long poll. The client asks again.
	maxWait = 25 * time.Second
	// maxBody bounds a request.
	maxBody = 1 << 20
	// writeTimeout is how long a caller may take to read one piece of an answer.
	writeTimeout = 10 * time.Second
	// stopTimeout is how long answers under way may take once serve stops.
	stopTimeout = time.Second
)

// Server answers on the control socket of a data directory.
type Server struct {
	listener *listener
	backend  Backend
	log      *slog.Logger
	names    *names
	uid      uint32
	maxWait  time.Duration
}

// Listen opens the control socket of dataDir, which becomes 0700. It fails if
// another server uses the directory, or if the socket's path is too long for the
// system. The socket is there when Listen returns; calls are answered once Serve
// runs.
func Listen(dataDir string, backend Backend, log *slog.Logger) (*Server, error) {
	l, err := listen(dataDir)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{listener: l, backend: backend, log: log, names: newNames(), uid: uint32(os.Geteuid()), maxWait: maxWait}, nil
}

// Path of the socket.
func (s *Server) Path() string { return s.listener.Addr().String() }

// Close gives the socket and the directory back. Serve does it too.
func (s *Server) Close() error { return s.listener.Close() }

// Serve answers until ctx ends, then lets what is under way finish for a second
// and removes the socket. It returns nil when ctx ended it.
func (s *Server) Serve(ctx context.Context) error {
	calls, stop := context.WithCancel(ctx) // ends long polls as soon as serve stops
	defer stop()
	srv := &http.Server{
		Handler:           s.guard(s.routes()),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return calls },
		ConnContext:       s.identify,
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		<-calls.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // whoever still reads now has had a second to
		}
	})
	err := srv.Serve(s.listener)
	stop()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("control socket: %w", err)
}

type peerKey struct{}

// caller is what identify found.
type caller struct {
	Peer
	err error
}

// identify asks the kernel who connected, once per connection.
func (s *Server) identify(ctx context.Context, c net.Conn) context.Context {
	p, err := peerOf(c)
	return context.WithValue(ctx, peerKey{}, &caller{p, err})
}

// guard lets in root and the uid that serve runs as, and no panic out.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer failLoudly()
		c, ok := r.Context().Value(peerKey{}).(*caller)
		switch {
		case !ok || c.err != nil:
			s.log.Warn("control call refused: caller unknown", "path", r.URL.Path)
			writeError(w, Errorf(Forbidden, "the system does not say who is calling"))
			return
		case c.UID != 0 && c.UID != s.uid:
			s.log.Warn("control call refused", "peer", c.String(), "pid", c.PID, "path", r.URL.Path)
			writeError(w, Errorf(Forbidden, "uid %d may not call: only root and uid %d, which serve runs as, may", c.UID, s.uid))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// failLoudly ends the process where net/http would log a panic and carry on
// with locks held and half a change made. Envoy has the deadlines.
func failLoudly() {
	p := recover()
	if p == nil || p == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
		if p != nil {
			panic(p)
		}
		return
	}
	go panic(p)
	select {}
}

// peer is who calls, with the name.
func (s *Server) peer(r *http.Request) Peer {
	c := r.Context().Value(peerKey{}).(*caller)
	p := c.Peer
	p.User = s.names.of(r.Context(), p.UID)
	return p
}
