//go:build envoy

package spool

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }

// tail opens the tail of the rig's spool.
func (r *rig) tail(o Options, position string) *Tail {
	r.t.Helper()
	o.Dir, o.Log, o.Reopen = r.spool(), quiet, r.reopen
	return openAt(r.t, o, position)
}

// until reads until there are rows that satisfy done, at most 15 s.
func until(t *testing.T, tail *Tail, done func([]Record) bool) []Record {
	t.Helper()
	var all []Record
	for end := time.After(15 * time.Second); ; {
		records, more, err := tail.Read(100)
		must(t, err)
		all = append(all, records...)
		if done(all) {
			return all
		}
		if more {
			continue
		}
		select {
		case <-tail.Changed():
		case <-end:
			t.Fatalf("only %d records came: %s", len(all), told(all))
		}
	}
}

func told(all []Record) string {
	var b strings.Builder
	for _, r := range all[max(0, len(all)-40):] {
		switch {
		case r.Row == nil:
			fmt.Fprintf(&b, "\n! %s: %s", r.Problem, r.Raw)
		case r.Row.Closed != nil:
			fmt.Fprintf(&b, "\nconnection %+v", *r.Row.Closed)
		default:
			fmt.Fprintf(&b, "\n%s %+v", r.Row.Type, *r.Row.Request)
		}
	}
	return b.String()
}

// requests of one type, without what the rig's own look at the port left.
func requests(all []Record, typ string) (out []audit.RequestEntry) {
	for _, r := range all {
		if r.Row != nil && r.Row.Type == typ {
			out = append(out, *r.Row.Request)
		}
	}
	return out
}

func problems(all []Record) (out []string) {
	for _, r := range all {
		if r.Row == nil {
			out = append(out, r.Problem+": "+r.Raw)
		}
	}
	return out
}

func ended(n int) func([]Record) bool {
	return func(all []Record) bool { return len(requests(all, TypeEnd)) >= n }
}

const get = "GET %s HTTP/1.1\r\nhost: db.example\r\nauthorization: Bearer %s\r\nconnection: close\r\n\r\n"

// h2 sends one header block that no client library would.
func (r *rig) h2(fields ...string) {
	r.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	must(r.t, err)
	defer c.Close()
	_, err = io.WriteString(c, http2.ClientPreface)
	must(r.t, err)
	f := http2.NewFramer(c, c)
	must(r.t, f.WriteSettings())
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		must(r.t, enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	must(r.t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	must(r.t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch fr := frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return
		case *http2.HeadersFrame:
			if fr.StreamEnded() {
				return
			}
		case *http2.DataFrame:
			if fr.StreamEnded() {
				return
			}
		}
	}
}

func TestFileAndGRPCAgreeOnEachRequest(t *testing.T) {
	r := newRig(t, http.HandlerFunc(hello))
	tail := r.tail(Options{}, "")
	tok := r.token(time.Now().Add(time.Hour), nil)
	long := strings.Repeat("p", 20_000)
	slow := make(chan struct{})
	go func() { r.raw("GET /slow HTTP/1.1\r\nhost: x\r\n"); close(slow) }()
	cases := map[string]func(){
		"open": func() { r.raw(fmt.Sprintf(get, "/open/a?k=secret&"+tok, tok)) },
		"post": func() {
			r.raw("POST /open HTTP/1.1\r\nhost: DB.example:80\r\nauthorization: Bearer " + tok + "\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc")
		},
		"long path":       func() { r.raw(fmt.Sprintf(get, "/open/"+long, tok)) },
		"stranger's path": func() { r.raw(fmt.Sprintf(get, "/open/"+long, "x")) },
		"no token":        func() { r.raw("GET /open HTTP/1.1\r\nhost: db.example\r\nconnection: close\r\n\r\n") },
		"wrong role": func() {
			r.raw(fmt.Sprintf(get, "/open", r.token(time.Now().Add(time.Hour), map[string]any{"groups": "x", "sub": 7})))
		},
		"token too long":   func() { r.raw(fmt.Sprintf(get, "/open", r.token(time.Now().Add(9*time.Hour), nil))) },
		"not open":         func() { r.raw(fmt.Sprintf(get, "/closed?q=1", tok)) },
		"codec error":      func() { r.raw("GARBAGE\r\n\r\n") },
		"headers too many": func() { r.raw("GET / HTTP/1.1\r\nhost: x\r\n" + strings.Repeat("a: b\r\n", 200) + "\r\n") },
		"headers too long": func() { r.raw("GET / HTTP/1.1\r\nhost: x\r\nbig: " + strings.Repeat("b", 40_000) + "\r\n\r\n") },
		"HTTP 1.0":         func() { r.raw("GET / HTTP/1.0\r\nhost: x\r\n\r\n") },
		"underscore":       func() { r.raw("GET / HTTP/1.1\r\nhost: x\r\na_b: c\r\n\r\n") },
		"no host":          func() { r.raw("GET / HTTP/1.1\r\nconnection: close\r\n\r\n") },
		"escaped slash":    func() { r.raw("GET /a%2fb HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") },
		"semicolon":        func() { r.raw("GET /a;b=c/d HTTP/1.1\r\nhost: u:p@x\r\nconnection: close\r\n\r\n") },
		"h2": func() {
			r.h2(":method", "GET", ":scheme", "http", ":path", "/open", ":authority", "db.example", "authorization", "Bearer "+tok)
		},
		"h2 method":       func() { r.h2(":method", "FETCH", ":scheme", "http", ":path", "/open", ":authority", "db.example") },
		"h2 without path": func() { r.h2(":method", "GET", ":scheme", "http", ":authority", "x") },
		"h2 underscore":   func() { r.h2(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x", "a_b", "c") },
		"h2 bad header":   func() { r.h2(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x", "BAD", "c\x00d") },
	}
	for name, do := range cases {
		do()
		file := requests(until(t, tail, ended(1)), TypeEnd)
		if len(file) != 1 {
			t.Errorf("%s: %d rows in the file: %+v", name, len(file), file)
		}
		r.agree(name, file[0])
	}
	<-slow // requestHeadersTimeout
	r.agree("slow", requests(until(t, tail, ended(1)), TypeEnd)[0])
}

// agree compares with the next row from gRPC.
func (r *rig) agree(name string, file audit.RequestEntry) {
	r.t.Helper()
	var live audit.RequestEntry
	select {
	case live = <-r.als:
	case <-time.After(10 * time.Second):
		r.t.Fatalf("%s: no row from gRPC for %+v", name, file)
	}
	r.t.Logf("%s: %s %d %s %s %q", name, file.Key, file.Status, file.Details, file.ResponseFlags, file.Denied)
	if file.Key == "" || file.Epoch != r.epoch || file.Connection == "" {
		r.t.Errorf("%s: %+v", name, file)
	}
	if d := live.DurationMs - file.DurationMs; d < 0 || d > 1 || d != 0 && file.Status != 0 {
		r.t.Errorf("%s: %v ms by file, %v by gRPC", name, file.DurationMs, live.DurationMs)
	}
	live.DurationMs = file.DurationMs
	live.Node, live.Gateway = "", ""
	if live.Method == "" && file.Method == "FETCH" {
		live.Method = file.Method // gRPC has an enum
	}
	if f, g := fmt.Sprintf("%+v", file), fmt.Sprintf("%+v", live); f != g {
		r.t.Errorf("%s:\nfile %s\ngRPC %s", name, f, g)
	}
}

// load sends requests one after the other on several connections until stop, and
// returns the paths that were answered.
func (r *rig) load(ctx context.Context, tag, tok string) map[string]bool {
	var mu sync.Mutex
	sent := map[string]bool{}
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := 0; ctx.Err() == nil; i++ {
				path := fmt.Sprintf("/open/%s/%d/%d", tag, k, i)
				req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", r.port, path), nil)
				req.Header.Set("authorization", "Bearer "+tok)
				res, err := client.Do(req)
				if err != nil {
					return // killed
				}
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if err == nil && res.StatusCode == http.StatusOK {
					mu.Lock()
					sent[path] = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return sent
}

func TestRotationUnderLoadLosesAndDoublesNothing(t *testing.T) {
	r := newRig(t, http.HandlerFunc(hello))
	o := Options{RotateAt: 32 << 10, tick: 5 * time.Millisecond}
	tail := r.tail(o, "")
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Second)
	defer stop()
	done := make(chan map[string]bool)
	go func() { done <- r.load(ctx, "x", r.token(time.Now().Add(time.Hour), nil)) }()
	seen, files := map[string]int{}, map[string]bool{}
	position := ""
	var sent map[string]bool
	take := func(max int) bool {
		records, more, err := tail.Read(max)
		must(t, err)
		for _, rec := range records {
			if rec.Row == nil {
				t.Fatalf("%s: %s", rec.Problem, rec.Raw)
			}
			if rec.Row.Type == TypeEnd {
				seen[rec.Row.Request.Path]++
			}
			position = rec.Position
			id, _, _ := strings.Cut(position, ":")
			files[id] = true
		}
		return more
	}
	for n := 1; sent == nil; n++ {
		for take(50) {
		}
		if position != "" {
			must(t, tail.Committed(position))
		}
		if n%50 == 0 { // as when the recorder is killed
			must(t, tail.Close())
			tail = r.tail(o, position)
		}
		if len(files) >= 12 {
			stop()
		}
		select {
		case sent = <-done:
		case <-tail.Changed():
		}
	}
	for end := time.Now().Add(10 * time.Second); len(seen) < len(sent) && time.Now().Before(end); take(50) {
	}
	for path := range sent {
		if seen[path] != 1 {
			t.Fatalf("%s is in the spool %d times", path, seen[path])
		}
	}
	if len(seen) != len(sent) {
		t.Errorf("%d requests were answered, %d rows", len(sent), len(seen))
	}
	must(t, tail.Committed(position))
	left, err := names(r.spool())
	must(t, err)
	t.Logf("%d requests over %d files", len(sent), len(files))
	if len(files) < 12 || len(left) > 2 {
		t.Errorf("%d files, %v are left", len(files), left)
	}
}

func TestAKilledEnvoyLosesItsLastFlushAtMost(t *testing.T) {
	r := newRig(t, http.HandlerFunc(hello))
	tail := r.tail(Options{RotateAt: 256 << 10, tick: 5 * time.Millisecond}, "")
	tok := r.token(time.Now().Add(time.Hour), nil)
	sent := map[string]bool{}
	var all []Record
	const kills = 4
	for life := range kills {
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		answered := make(chan map[string]bool)
		go func() { answered <- r.load(ctx, fmt.Sprint(life), tok) }()
		all = append(all, until(t, tail, ended(200))...)
		r.kill()
		stop()
		for p := range <-answered {
			sent[p] = true
		}
		if life%2 == 0 { // as if the kill had come within a write
			write(t, r.spool(), current, `{"typ":"DownstreamEnd","ep":"epoch-1","p":"/torn?k=secr`)
		}
		r.epoch = fmt.Sprint("epoch-", life+2)
		r.start()
	}
	r.raw(fmt.Sprintf(get, "/open/last", tok))
	all = append(all, until(t, tail, func(all []Record) bool {
		reqs := requests(all, TypeEnd)
		return len(reqs) > 0 && reqs[len(reqs)-1].Path == "/open/last"
	})...)
	live := map[string]bool{} // by gRPC
	for len(r.als) > 0 {
		live[(<-r.als).Path] = true
	}
	seen, epochs := map[string]int{}, map[string]bool{}
	for _, e := range requests(all, TypeEnd) {
		seen[e.Path]++
		epochs[e.Epoch] = true
	}
	lost, gone := 0, 0
	for p := range sent {
		switch {
		case seen[p] > 1:
			t.Errorf("%s is there %d times", p, seen[p])
		case seen[p] == 0 && !live[p]:
			gone++
		case seen[p] == 0:
			lost++
		}
	}
	t.Logf("%d requests, %d of them in gRPC alone, %d in neither", len(sent), lost, gone)
	if gone > 4*kills { // a client has its answer before Envoy logs the request: one of each connection
		t.Errorf("%d requests are in neither log", gone)
	}
	if got := problems(all); len(got) != kills/2 || strings.Contains(strings.Join(got, ""), "secr") {
		t.Errorf("problems %q", got)
	}
	if lost > 10*kills || len(epochs) != kills+1 {
		t.Errorf("%d rows lost; epochs %v", lost, epochs)
	}
}

// hostilePath is a path that HTTP/1 can carry, of whatever kind.
func hostilePath(rng *rand.Rand) string {
	kinds := []func() string{
		func() string { return `{"typ":"DownstreamEnd","ep":"epoch-1","sid":"forged"}` },
		func() string { return `","sid":"forged","x":"` },
		func() string { return `\u0000\",\n\r\\` },
		func() string { return "%0a%0d%00%22%7b" },
		func() string { return "\xff\xfe\xc3\x28\xed\xa0\x80" },
		func() string { return "\u2028\u202e\U0001f600é" },
		func() string { return strings.Repeat("\xff", rng.IntN(30_000)) },
		func() string { return strings.Repeat(`"`, rng.IntN(30_000)) },
		func() string { return strings.Repeat("eyJhbGciOiJIUzI1NiJ9.", rng.IntN(1000)) },
		func() string {
			b := make([]byte, rng.IntN(200))
			for i := range b {
				b[i] = byte(rng.IntN(256))
			}
			return string(b)
		},
	}
	var b strings.Builder
	for range 1 + rng.IntN(3) {
		b.WriteString(kinds[rng.IntN(len(kinds))]())
	}
	return strings.NewReplacer("\n", "", "\r", "", " ", "").Replace(b.String())
}

func TestEachHostileRequestIsOneGoodRecord(t *testing.T) {
	r := newRig(t, http.HandlerFunc(hello))
	tail := r.tail(Options{}, "")
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	tok := r.token(time.Now().Add(time.Hour), map[string]any{"sub": "al\"ice\x00\u202e\n{\"typ\":\"x\"}" + strings.Repeat("é", 3000), "jti": "\\\"}"})
	const n = 300
	begin := time.Now()
	work := make(chan string)
	var clients sync.WaitGroup
	for range 10 { // each waits 50 ms for Envoy to close
		clients.Go(func() {
			for text := range work {
				r.raw(text)
			}
		})
	}
	for range n {
		// Envoy refuses most of what is hostile; one field at a time gets further.
		auth, host, agent := "authorization: Bearer "+tok, "db.example", "a"
		switch rng.IntN(6) {
		case 0:
			auth = "x: " + hostilePath(rng)
		case 1:
			host = fmt.Sprintf("%.1s", hostilePath(rng))
		case 2:
			agent = hostilePath(rng)
		}
		work <- fmt.Sprintf("GET /open/%s HTTP/1.1\r\nhost: %s\r\n%s\r\nuser-agent: %s\r\nconnection: close\r\n\r\n",
			hostilePath(rng), host, auth, agent)
	}
	close(work)
	clients.Wait()
	r.raw("GET /" + strings.Repeat("p", 60_000) + " HTTP/1.1\r\nhost: x\r\n\r\n")
	// Envoy closes a few before it has read anything: no request, but a connection.
	unread := func(all []Record) (count int) {
		for _, r := range all {
			if r.Row != nil && r.Row.Closed != nil && r.Row.Closed.BytesIn == 0 && r.Row.Closed.Start.After(begin) {
				count++
			}
		}
		return count
	}
	all := until(t, tail, func(all []Record) bool { return len(requests(all, TypeEnd))+unread(all) >= n+1 })
	if got := problems(all); len(got) > 0 {
		t.Errorf("seed %d: problems %q", seed, got)
	}
	if got, closed := len(requests(all, TypeEnd)), unread(all); got+closed != n+1 || closed > 5 {
		t.Errorf("seed %d: %d rows of %d requests, and %d connections of which nothing was read", seed, got, n+1, closed)
	}
	keys, answers := map[string]bool{}, map[string]int{}
	for _, e := range requests(all, TypeEnd) {
		if keys[e.Key] || e.Key == "forged" || e.Epoch != r.epoch || strings.ContainsAny(e.Path+e.Host+e.Subject, "\x00\n\x1b\u202e") {
			t.Errorf("seed %d: %+v", seed, e)
		}
		keys[e.Key] = true
		answers[e.Details]++
	}
	size := 0
	b, err := os.ReadFile(filepath.Join(r.spool(), current))
	must(t, err)
	for line := range bytes.Lines(b) {
		size = max(size, len(line))
	}
	t.Logf("the longest line has %d bytes; %v", size, answers)
	if size > 40<<10 || answers["via_upstream"] == 0 {
		t.Errorf("seed %d: a line of %d bytes; %v", seed, size, answers)
	}
}

func TestAConnectionWithoutARequestHasARow(t *testing.T) {
	r := newRig(t, http.HandlerFunc(hello))
	tail := r.tail(Options{}, "")
	closed := func(all []Record) (out []audit.ConnectionEntry) {
		for _, rec := range all {
			if rec.Row != nil && rec.Row.Closed != nil {
				out = append(out, *rec.Row.Closed)
			}
		}
		return out
	}
	one := func(all []Record) bool { return len(closed(all)) > 0 }
	until(t, tail, one) // the rig's look at the port
	dial := func(port int, text string) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		must(t, err)
		defer c.Close()
		if text != "" {
			_, _ = io.WriteString(c, text)
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.Copy(io.Discard, c)
		}
	}
	handshake := func(conf *tls.Config) {
		if c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.tls), conf); err == nil {
			c.Close()
		}
	}
	for _, c := range []struct {
		name, details, sni string
		do                 func()
	}{
		{"connect and close", "", "", func() { dial(r.port, "") }},
		{"plaintext on the TLS port", "TLS", "", func() { dial(r.tls, "GET / HTTP/1.1\r\nhost: x\r\n\r\n") }},
		{"no common TLS version", "TLS", "db.example", func() {
			handshake(&tls.Config{ServerName: "db.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
		}},
		{"a certificate that is not trusted", "TLS", "db.example", func() { handshake(&tls.Config{ServerName: "db.example"}) }},
		{"handshake and close", "", "db.example", func() { handshake(&tls.Config{ServerName: "db.example", InsecureSkipVerify: true}) }},
	} {
		c.do()
		all := until(t, tail, one)
		got := closed(all)
		t.Logf("%s: %+v", c.name, got)
		if len(all) != 1 || len(got) != 1 || got[0].Epoch != r.epoch || got[0].ClientAddress == "" ||
			!strings.Contains(got[0].Details, c.details) || got[0].ServerName != c.sni || time.Since(got[0].Start).Abs() > time.Minute {
			t.Errorf("%s: %s", c.name, told(all))
		}
	}
}

func TestAStreamOverASecondHasAnOpenRowAndAnEnd(t *testing.T) {
	var streams atomic.Int32
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		streams.Add(1)
		fmt.Fprint(w, "x")
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	}))
	tail := r.tail(Options{}, "")
	stream := func(path, tok string) (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		must(t, err)
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, get, path, tok)
		b := bufio.NewReader(c)
		line, err := b.ReadString('\n')
		if err != nil || !strings.Contains(line, " 200 ") {
			t.Fatalf("%s: %q, %v", path, line, err)
		}
		return c, b
	}
	long := r.token(time.Now().Add(time.Hour), nil)
	aborted, _ := stream("/open/aborted", long)
	stream("/open/lease", long)
	stream("/open/token", r.token(time.Now().Add(3*time.Second), nil))
	all := until(t, tail, func(all []Record) bool { return len(requests(all, TypeOpen)) >= 3 })
	_ = aborted.Close()
	all = append(all, until(t, tail, ended(2))...) // aborted, and the token's
	r.listeners(false)
	all = append(all, until(t, tail, ended(1))...)
	open, end := requests(all, TypeOpen), requests(all, TypeEnd)
	if len(open) != 3 || len(end) != 3 {
		t.Fatalf("rows%s", told(all))
	}
	opened := map[string]string{}
	for _, e := range open {
		opened[e.Key] = e.Path
		if e.Opening != "o1" || e.Subject != "alice" || e.Incident != "INC-1" || e.DurationMs < 900 {
			t.Errorf("open: %+v", e)
		}
	}
	cuts := map[string]string{"/open/token": audit.CutToken}
	for _, e := range end {
		t.Logf("%s %d %s %s", e.Path, e.Status, e.ResponseFlags, e.Details)
		if opened[e.Key] != e.Path || e.Cut != cuts[e.Path] {
			t.Errorf("end: %+v", e)
		}
		select { // the same from gRPC
		case live := <-r.als:
			if opened[live.Key] != live.Path || live.Cut != cuts[live.Path] {
				t.Errorf("gRPC: %+v", live)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no row from gRPC")
		}
	}
}
