package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/auditlog"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// everybody is alice, who may read.
type everybody struct{ refuse atomic.Bool }

func (*everybody) Who(context.Context, *http.Request) (authenticationv1.UserInfo, error) {
	return authenticationv1.UserInfo{Username: "alice"}, nil
}

func (e *everybody) May(context.Context, authenticationv1.UserInfo) (bool, string, error) {
	return !e.refuse.Load(), "alice may not: ask for a role", nil
}

// logOf is a log, and the way to it as if by a cluster. cut, if it is above 0, is after
// how many bytes of an answer the connection breaks.
type logOf struct {
	*AuditLog
	log   *merkle.Log
	dir   string
	judge everybody
	cut   atomic.Int64
}

type cutting struct {
	http.ResponseWriter
	left int64
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cutting) Write(b []byte) (int, error) {
	if c.left -= int64(len(b)); c.left < 0 {
		_ = http.NewResponseController(c.ResponseWriter).Flush() // what came before is to arrive
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(b)
}

func newLog(t *testing.T) *logOf {
	t.Helper()
	l := &logOf{dir: t.TempDir()}
	var err error
	if l.log, err = merkle.Open(l.dir, merkle.Options{Log: slog.New(slog.DiscardHandler), SegmentBytes: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	handler := auditlog.NewReading(auditlog.ReadOptions{Dir: l.dir, Append: l.log.Append, Judge: &l.judge, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := l.cut.Load(); n > 0 {
			w = &cutting{w, n}
		}
		handler.ServeHTTP(w, r)
	}))
	transport := server.Client().Transport.(*http.Transport).Clone()
	l.AuditLog = &AuditLog{namespace: "breakglass-system", http: &http.Client{Transport: rewrite{server.URL, transport}}, close: server.Close}
	t.Cleanup(func() { l.Close(); _ = l.log.Close() })
	return l
}

// rewrite has requests go to the server of the test.
type rewrite struct {
	to   string
	next http.RoundTripper
}

func (r rewrite) RoundTrip(req *http.Request) (*http.Response, error) {
	to, err := url.Parse(r.to)
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.URL.Host = to.Host
	return r.next.RoundTrip(req)
}

func (l *logOf) put(t *testing.T, n int) {
	t.Helper()
	drafts := make([]merkle.Draft, n)
	for i := range drafts {
		drafts[i] = merkle.Draft{Kind: "request", Data: json.RawMessage(fmt.Sprintf(`{"i":%d,"pad":%q}`, i, strings.Repeat("x", 300)))}
	}
	if err := l.log.Append(t.Context(), drafts...); err != nil {
		t.Fatal(err)
	}
	for size := fmt.Sprintf("\n%d\n", l.log.Size()); !strings.Contains(string(l.log.Checkpoint()), size); {
		time.Sleep(time.Millisecond) // it is signed ten times a second
	}
}

func verified(t *testing.T, dir string) *merkle.Report {
	t.Helper()
	keys, err := os.ReadFile(filepath.Join(dir, "audit.pub"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := merkle.Verify(t.Context(), dir, merkle.VerifyOptions{Keys: strings.Fields(string(keys))})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		t.Errorf("%+v", f)
	}
	return r
}

func TestACopyIsSoundAndGoesOnWhereItWas(t *testing.T) {
	l, dir := newLog(t), filepath.Join(t.TempDir(), "copy")
	l.put(t, 500)
	first, err := l.CopyLog(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); first.Entries < 500 || r.Entries != first.Entries || r.Unsigned != 0 {
		t.Errorf("copied %+v, verified %+v", first, r)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "audit.key*")); err != nil || len(names) > 0 {
		t.Errorf("the copy has %q, error %v", names, err)
	}
	l.put(t, 10)
	var told int64
	next, err := l.CopyLog(t.Context(), dir, func(n int64) { told = n })
	if err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); next.Entries < first.Entries+10 || r.Entries != next.Entries || next.Bytes > first.Bytes/10 || told == 0 {
		t.Errorf("copied %+v after %+v, told of %d bytes", next, first, told)
	}
}

func TestACopyThatBreaksOffIsFinishedTheNextTime(t *testing.T) {
	l, dir := newLog(t), t.TempDir()
	l.put(t, 300)
	broken := 0
	for cut := int64(1); ; cut = cut*3/2 + 1 {
		l.cut.Store(cut)
		_, err := l.CopyLog(t.Context(), dir, nil)
		if err == nil {
			break
		}
		if broken++; control.CodeOf(err) != control.Unavailable || !strings.Contains(err.Error(), "try again") {
			t.Fatal(err)
		}
		if cut > 1000 && cut%2 == 0 { // with more than there was
			l.cut.Store(0)
			l.put(t, 5)
		}
	}
	if verified(t, dir); broken < 10 {
		t.Errorf("it broke off %d times", broken)
	}
	// The same with a copy that is there already.
	l.cut.Store(0)
	l.put(t, 300)
	for cut := int64(1); ; cut = cut*3/2 + 1 {
		l.cut.Store(cut)
		if _, err := l.CopyLog(t.Context(), dir, nil); err == nil {
			break
		}
		verified(t, dir)
	}
	verified(t, dir)
}

func TestADirectoryThatIsNoCopyOfTheLogIsLeftAsItIs(t *testing.T) {
	l, other := newLog(t), newLog(t)
	l.put(t, 5)
	other.put(t, 5)
	dir := t.TempDir()
	if _, err := other.CopyLog(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.CopyLog(t.Context(), dir, nil); control.CodeOf(err) != control.Refused || !strings.Contains(err.Error(), "copy into another directory") {
		t.Errorf("a copy of another log: %v", err)
	}
	verified(t, dir)
	if _, err := l.CopyLog(t.Context(), other.dir, nil); err == nil || !strings.Contains(err.Error(), "no copy of one") {
		t.Errorf("a log that is written to: %v", err)
	}
}

func TestEntriesComeUntilTheServiceSaysWhyNoMoreDo(t *testing.T) {
	l := newLog(t)
	l.put(t, 3)
	var got []merkle.Entry
	enough := errors.New("enough")
	err := l.Entries(t.Context(), url.Values{"kind": {"request"}, "follow": {"true"}}, func(e merkle.Entry) error {
		if got = append(got, e); len(got) == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || string(got[2].Line()) == "" || !strings.Contains(string(got[2].Line()), `"i":2,`) {
		t.Errorf("%d entries, error %v", len(got), err)
	}
	l.judge.refuse.Store(true)
	err = l.Entries(t.Context(), nil, func(merkle.Entry) error { return nil })
	if control.CodeOf(err) != control.Forbidden || !strings.Contains(err.Error(), "alice may not: ask for a role") {
		t.Errorf("error %v", err)
	}
	if _, err := l.Proof(t.Context(), 1); control.CodeOf(err) != control.Forbidden {
		t.Errorf("error %v", err)
	}
	l.judge.refuse.Store(false)
	p, err := l.Proof(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile(filepath.Join(l.dir, "audit.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(strings.Fields(string(keys))); err != nil {
		t.Error(err)
	}
}
