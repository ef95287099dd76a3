package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// stopGrace is how long Envoy may take to end by itself.
const stopGrace = 5 * time.Second

// Envoy is one supervised Envoy process and its successors.
type Envoy struct {
	cfg       Config
	bootstrap []byte
	serveLock *os.File
	admin     *http.Client
	changed   chan struct{}

	cancel context.CancelFunc // ends supervision
	done   chan struct{}      // closed when supervision has ended

	// lastDeadmanStart and logOffset belong to the supervising goroutine.
	lastDeadmanStart time.Time
	logOffset        int64

	mu       sync.Mutex
	state    State
	current  *process // the newest one; it may have ended
	life     *Life
	released bool
}

// State is what is known of an Envoy now.
type State struct {
	PID       int       // 0 when none runs
	StartedAt time.Time // when that process was started
	Restarts  int       // by this control plane
	Adopted   bool      // the process was started by an earlier control plane
	Epoch     string    // of that process, random; empty when none runs
	Ready     bool      // Envoy has had its first configuration and serves it

	// LastError is the last thing that went wrong, also when it is over; empty
	// when nothing has.
	LastError   string
	LastErrorAt time.Time
}

// State returns a copy.
func (e *Envoy) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

// Changed receives after State has changed; several changes may be one receive.
// It is never closed.
func (e *Envoy) Changed() <-chan struct{} { return e.changed }

// Dir is the Envoy's own directory.
func (e *Envoy) Dir() string { return e.cfg.dir() }

func (e *Envoy) update(change func(*State)) {
	e.mu.Lock()
	before := e.state
	change(&e.state)
	same := before == e.state
	e.mu.Unlock()
	if same {
		return
	}
	select {
	case e.changed <- struct{}{}:
	default: // one is waiting to be received already
	}
}

func (e *Envoy) fail(err error) {
	e.cfg.Log.Error("Envoy failed", "error", err)
	e.update(func(s *State) { s.LastError, s.LastErrorAt = err.Error(), time.Now() })
}

// Life is how long Envoy may live if this control plane dies.
type Life struct {
	// Until is the last moment at which any window closes. Zero: nothing is open.
	Until time.Time
	// Unrecorded: it may serve although its log can no longer be written.
	Unrecorded bool
}

// SetLife says how long Envoy may live without a control plane. What was said
// last holds also after SIGKILL. When it cannot be written, what was written
// before holds and State tells.
func (e *Envoy) SetLife(life Life) {
	e.mu.Lock()
	same := e.life != nil && e.life.Until.Equal(life.Until) && e.life.Unrecorded == life.Unrecorded
	e.mu.Unlock()
	if same {
		return
	}
	if err := writeDeadline(e.cfg.dir(), life); err != nil {
		e.fail(fmt.Errorf("record the last deadline %s: %w: an orphaned Envoy would follow the one recorded before",
			life.Until.UTC().Format(time.RFC3339), err))
		return
	}
	e.mu.Lock()
	e.life = &life
	e.mu.Unlock()
}

// Stop ends Envoy: SIGTERM, and SIGKILL after 5 s or when ctx ends. It waits
// until the process is gone. After Stop or Detach, Stop does nothing.
func (e *Envoy) Stop(ctx context.Context) error {
	p, ok := e.release()
	if !ok {
		return nil
	}
	err := p.end(ctx, stopGrace)
	p.release()
	if err == nil {
		e.exited(p)
		err = removeState(e.cfg.dir())
	}
	e.update(func(s *State) { s.PID, s.Epoch, s.Ready = 0, "", false })
	if err != nil {
		err = fmt.Errorf("stop Envoy %q: %w", e.cfg.Name, err)
	}
	return errors.Join(err, e.serveLock.Close())
}

// removeState removes what speaks of a process that is gone. The lock files
// stay: removing one would let two processes lock two files of one name. The
// spool stays: it may hold what nobody has read yet.
func removeState(dir string) error {
	var errs []error
	for _, name := range []string{fileRecord, fileDeadline, fileEnded, fileAdmin} {
		if err := os.Remove(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Detach ends supervision and leaves Envoy running, as if this control plane
// had been killed: the next Start adopts it, or the deadman ends it.
func (e *Envoy) Detach() {
	if p, ok := e.release(); ok {
		p.release()
		_ = e.serveLock.Close() // closing gives up the lock; there is nothing to flush
	}
}

// release ends supervision; false when that was done before.
func (e *Envoy) release() (*process, bool) {
	e.cancel()
	<-e.done
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.released {
		return nil, false
	}
	e.released = true
	return e.current, true
}

// maxAdminBody bounds an answer; /config_dump with 5,000 routes has tens of MB.
const maxAdminBody = 256 << 20

// Admin asks Envoy's admin interface, such as GET /stats or POST /reopen_logs.
// An answer other than 200 is an error that holds its first line.
func (e *Envoy) Admin(ctx context.Context, method, path string) ([]byte, error) {
	return askAdmin(ctx, e.admin, method, path, maxAdminBody)
}

// Ready asks Envoy whether it has had its first configuration and serves it.
func (e *Envoy) Ready(ctx context.Context) bool {
	_, err := e.Admin(ctx, http.MethodGet, "/ready")
	return err == nil
}

func adminClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		// No connection outlives an answer: the Envoy behind the path changes.
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
}

func askAdmin(ctx context.Context, client *http.Client, method, path string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("envoy admin: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("envoy admin: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("the answer has more than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("envoy admin: %s %s: %w", method, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		line, _, _ := strings.Cut(string(body), "\n")
		return body, fmt.Errorf("envoy admin: %s %s: status %d: %.200s", method, path, resp.StatusCode, line)
	}
	return body, nil
}
