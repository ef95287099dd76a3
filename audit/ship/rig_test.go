package ship

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

var quiet = slog.New(slog.DiscardHandler)

const podOrigin = "breakglass.dev/log/pay/door/pod-1"

var gateway = Identity{Name: "gateway pay/door", Gateway: "pay/door"}

// service is a Server on a log, behind TLS, that can be killed and started again.
type service struct {
	t    testing.TB
	dir  string
	http *httptest.Server

	mu     sync.Mutex
	id     Identity
	now    func() time.Time
	log    *merkle.Log
	server *Server
	// fault is asked before and after each request is served. True: its connection is
	// cut.
	fault func(r *http.Request, served bool) bool
}

func newService(t testing.TB) *service {
	t.Helper()
	s := &service{t: t, dir: filepath.Join(t.TempDir(), "log"), id: gateway, now: time.Now}
	s.start()
	s.http = httptest.NewUnstartedServer(s)
	s.http.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.http.StartTLS()
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
		_ = s.log.Close() // a test may have
	})
	return s
}

// start opens the log, as another process would after a kill.
func (s *service) start() {
	s.t.Helper()
	l, err := merkle.Open(s.dir, merkle.Options{Log: quiet, Origin: "breakglass.dev/log/cluster"})
	if err != nil {
		s.t.Fatal(err)
	}
	name, err := Name(l.Origin(), l.Keys())
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = l
	s.server = NewServer(ServerOptions{
		Ledger: l, Dir: s.dir, Name: name, Log: quiet, Lost: time.Minute, Now: func() time.Time { return s.now() },
		Identify: func(*tls.ConnectionState) (Identity, error) { return s.id, nil },
	})
	s.server.mono = func() time.Time { return s.now() }
}

// restart as after a kill: what was not appended is not there, and sessions are
// forgotten.
func (s *service) restart() {
	s.t.Helper()
	s.http.CloseClientConnections()
	s.http.Client().CloseIdleConnections() // who brings by hand does not try again
	if err := s.log.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

func (s *service) current() (*Server, func(*http.Request, bool) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server, s.fault
}

func (s *service) setFault(f func(*http.Request, bool) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	server, fault := s.current()
	if fault != nil && fault(r, false) {
		panic(http.ErrAbortHandler)
	}
	rec := httptest.NewRecorder()
	server.ServeHTTP(rec, r)
	if fault != nil && fault(r, true) {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

func (s *service) options(t testing.TB, dir string) Options {
	t.Helper()
	config := s.http.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = nil
	config.ServerName = "example.com"
	return Options{
		Service: s.http.Listener.Addr().String(), Mark: filepath.Join(dir, "shipped"), Log: quiet,
		TLS: func() (*tls.Config, error) { return config, nil },
	}
}

// origins are the entries that came from elsewhere, by log and in order.
func (s *service) origins() map[string][]uint64 {
	s.t.Helper()
	out := map[string][]uint64{}
	for _, e := range s.entries("") {
		if log, seq, _, ok := Origin(e); ok {
			out[log] = append(out[log], seq)
		}
	}
	return out
}

func (s *service) entries(kind string) (out []merkle.Entry) {
	s.t.Helper()
	if err := merkle.Read(context.Background(), s.dir, merkle.Filter{}, func(e merkle.Entry) error {
		if kind == "" || e.Kind == kind {
			out = append(out, e)
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// events of the sources, in order.
func (s *service) events() (out []string) {
	s.t.Helper()
	for _, e := range s.entries(audit.KindSource) {
		var src audit.Source
		if err := json.Unmarshal(e.Data, &src); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %d", src.Event, src.Taken))
	}
	return out
}

// pod is a log and the client that brings it.
type pod struct {
	t      testing.TB
	dir    string
	origin string
	size   int64 // of its segments
	log    *merkle.Log
	client *Client
	stop   context.CancelFunc
	ran    chan struct{}
}

func newPod(t testing.TB, s *service, origin string) *pod {
	t.Helper()
	p := &pod{t: t, dir: t.TempDir(), origin: origin}
	p.start(s)
	return p
}

func (p *pod) start(s *service) {
	p.t.Helper()
	p.client = New(s.options(p.t, p.dir))
	p.client.least, p.client.most = time.Millisecond, 10*time.Millisecond
	l, err := merkle.Open(filepath.Join(p.dir, "log"), merkle.Options{Log: quiet, Origin: p.origin, Hold: p.client.Hold, SegmentBytes: p.size})
	if err != nil {
		p.t.Fatal(err)
	}
	p.log = l
	p.client.Opened(l)
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.ran = stop, make(chan struct{})
	go func(c *Client, ran chan struct{}) {
		defer close(ran)
		c.Run(ctx)
	}(p.client, p.ran)
	p.t.Cleanup(p.kill)
}

// kill ends it without a word.
func (p *pod) kill() {
	p.stop()
	<-p.ran
	_ = p.log.Close() // a test may have
}

func (p *pod) add(n int) {
	p.t.Helper()
	var drafts []merkle.Draft
	for range n {
		drafts = append(drafts, merkle.Draft{Kind: "request", Data: json.RawMessage(`{"gateway":"pay/door","type":"end"}`), Cursors: map[string]string{"spool/a": "1"}})
	}
	if err := p.log.Append(context.Background(), drafts...); err != nil {
		p.t.Fatal(err)
	}
}

// end in order.
func (p *pod) end() {
	p.t.Helper()
	if err := p.log.Close(); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.client.Finish(ctx); err != nil {
		p.t.Fatal(err)
	}
	<-p.ran
}

// confirmed waits until all is.
func (p *pod) confirmed() {
	p.t.Helper()
	late := time.After(20 * time.Second)
	for {
		next, changed := p.client.Confirmed()
		if next == p.log.Size() {
			return
		}
		select {
		case <-changed:
		case <-late:
			p.t.Fatalf("%d of %d entries are confirmed: %+v", next, p.log.Size(), p.client.Stats())
		}
	}
}

// own is the seqs of the entries of a log that another one takes.
func own(t testing.TB, dir string) (out []uint64) {
	t.Helper()
	if err := merkle.Read(context.Background(), filepath.Join(dir, "log"), merkle.Filter{}, func(e merkle.Entry) error {
		if !ownKind(e.Kind) {
			out = append(out, e.Seq)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// same fails unless the service has exactly the entries of the pod, in order.
func (s *service) same(p *pod) {
	s.t.Helper()
	var got []uint64
	for log, seqs := range s.origins() {
		if strings.HasPrefix(log, p.origin+" ") {
			got = append(got, seqs...)
		}
	}
	if want := own(s.t, p.dir); !slices.Equal(got, want) {
		s.t.Fatalf("the service has %d entries of %s, and there are %d: %v\n%v", len(got), p.origin, len(want), got, want)
	}
}

func sound(t testing.TB, dir string) {
	t.Helper()
	r, err := merkle.Verify(context.Background(), dir, merkle.VerifyOptions{})
	if err != nil || len(r.Findings) > 0 {
		t.Fatalf("the log is not sound: %v %+v", err, r)
	}
}
