package receivers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
)

// world is a log that is written to, and a process that brings it to receivers.
type world struct {
	t      testing.TB
	dir    string
	log    *merkle.Log
	config sink.Config
	child  *exec.Cmd
	n      int
}

func newWorld(t testing.TB, config string) *world {
	t.Helper()
	c, err := sink.Parse([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir(), config: c}
	if w.log, err = merkle.Open(w.logDir(), merkle.Options{Log: slog.New(slog.DiscardHandler), SegmentBytes: 4 << 20}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.kill(); _ = w.log.Close() })
	return w
}

func (w *world) logDir() string { return filepath.Join(w.dir, "log") }

// run starts the process of the sinks.
func (w *world) run() {
	w.t.Helper()
	args, err := json.Marshal(sinksArgs{w.logDir(), filepath.Join(w.dir, "sinks"), w.config})
	if err != nil {
		w.t.Fatal(err)
	}
	w.child = exec.Command(os.Args[0])
	w.child.Env = append(os.Environ(), asSinks+"="+string(args), "GOMAXPROCS=1")
	w.child.Stderr = os.Stderr
	if os.Getenv("VERBOSE") == "" {
		w.child.Stderr = nil
	}
	if err := w.child.Start(); err != nil {
		w.t.Fatal(err)
	}
}

// kill ends it as a crash does: SIGKILL.
func (w *world) kill() {
	if w.child == nil {
		return
	}
	_ = w.child.Process.Kill()
	_ = w.child.Wait()
	w.child = nil
}

// request is an entry as the recorder makes them.
func request(n int) json.RawMessage {
	at := time.Date(2026, 11, 26, 1, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Millisecond)
	return fmt.Appendf(nil, `{"v":1,"key":"k%d","type":"end","gateway":"prod/door","epoch":"e","n":%d,"streamID":"s%d","start":"%s","durationMs":1.5,"method":"GET","host":"db.example.com","path":"/<table>?q=redacted","status":200,"bytesIn":0,"bytesOut":17,"route":"prod/db","rule":"0","activations":["prod/a"],"role":"oncall","incident":"INC-4711","issuer":"https://idp","subject":"alice","clientAddress":"192.0.2.7:4711","upstreamAddress":"10.0.0.1:5432"}`,
		n, n+1, n, at.Format(time.RFC3339Nano))
}

// add appends n requests.
func (w *world) add(n int) {
	w.t.Helper()
	if n <= 0 {
		return
	}
	var drafts []merkle.Draft
	for range n {
		drafts = append(drafts, merkle.Draft{Kind: "request", Data: request(w.n)})
		w.n++
	}
	if err := w.log.Append(context.Background(), drafts...); err != nil {
		w.t.Fatal(err)
	}
}

// load appends so many requests a second, until stop, which says how many there were.
func (w *world) load(perSecond int) (stop func() int) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	before, began := w.n, time.Now()
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				// As many as there should be by now: a busy machine comes late.
				w.add(int(time.Since(began).Seconds()*float64(perSecond)) - (w.n - before))
			}
		}
	})
	return func() int { close(done); wg.Wait(); return w.n - before }
}

// lines are all lines of the log, and hashes those of all lines.
func (w *world) lines() (out []string) {
	w.t.Helper()
	w.read(func(line []byte) { out = append(out, string(line)) })
	return out
}

func (w *world) hashes() (out [][32]byte) {
	w.t.Helper()
	w.read(func(line []byte) { out = append(out, sha256.Sum256(line)) })
	return out
}

func (w *world) read(fn func(line []byte)) {
	w.t.Helper()
	err := merkle.Read(context.Background(), w.logDir(), merkle.Filter{}, func(e merkle.Entry) error {
		fn(e.Line())
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) origin() string {
	w.t.Helper()
	o, _, _, err := merkle.CheckpointHead(w.log.Checkpoint())
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// inbox is what a receiver has, by id: the hashes, for there are many. Checkpoints are
// kept apart.
type inbox struct {
	mu                 sync.Mutex
	lines, checkpoints map[string][32]byte
	again              int // that it had already
	wrong              []string
}

func newInbox() *inbox {
	return &inbox{lines: map[string][32]byte{}, checkpoints: map[string][32]byte{}}
}

func (b *inbox) take(id, line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := b.lines
	if strings.Contains(id, "/checkpoint/") {
		to = b.checkpoints
	}
	hash := sha256.Sum256([]byte(line))
	if had, ok := to[id]; ok {
		b.again++
		if had != hash && !strings.Contains(id, "/checkpoint/") {
			b.wrong = append(b.wrong, id+" came again as another")
		}
		return
	}
	to[id] = hash
}

func (b *inbox) fail(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, what)
}

func (b *inbox) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.lines)
}

// whole waits until the receiver has all of the log, and fails unless it has each
// entry once, byte for byte.
func (w *world) whole(b *inbox) {
	w.t.Helper()
	want := w.hashes()
	eventually(w.t, fmt.Sprintf("all %d entries are there", len(want)), func() bool { return b.count() >= len(want) })
	b.mu.Lock()
	defer b.mu.Unlock()
	origin := w.origin()
	missing := 0
	for seq, hash := range want {
		if b.lines[fmt.Sprintf("%s/%d", origin, seq)] != hash {
			missing++
		}
	}
	if missing > 0 || len(b.lines) != len(want) || len(b.wrong) > 0 {
		w.t.Errorf("%d entries in the log, %d there, %d missing or other; %v", len(want), len(b.lines), missing, b.wrong)
	}
	if len(b.checkpoints) == 0 {
		w.t.Error("no checkpoint came")
	}
	w.t.Logf("%d entries, each once by its id; %d came more than once; %d checkpoints", len(want), b.again, len(b.checkpoints))
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := 90*time.Second + outage(0) // what an outage has left takes time
	late := time.After(limit)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not after %v: %s", limit, what)
		}
	}
}
