package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/translator"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
	"github.com/prometheus/client_golang/prometheus"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/clock"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// nowhere is a world without Envoys.
type nowhere struct{}

func (nowhere) Requester(*source.Set, types.NamespacedName) string                { return "nobody" }
func (nowhere) Amend(*translator.Input)                                           {}
func (nowhere) Apply(context.Context, *source.Set, *translator.Result)            {}
func (nowhere) Deliveries() map[types.NamespacedName]snapshot.Delivery            { return nil }
func (nowhere) Envoy(types.NamespacedName) (status control.EnvoyStatus, _ string) { return status, "" }
func (nowhere) NotReady() []string                                                { return nil }
func (nowhere) Collect(chan<- prometheus.Metric)                                  {}
func (nowhere) Stop()                                                             {}

// begun is a loop with an empty journal on disk, without manifests and Envoys.
func begun(t testing.TB) *Engine {
	t.Helper()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	l := &Engine{
		log: log, opts: Options{DataDir: dir, Log: log}, recorder: &recorder.Recorder{}, world: nowhere{},
		pokes: make(chan struct{}, 1), written: make(chan *write, 1), viewed: make(chan struct{}),
		set: &source.Set{}, candidates: map[types.NamespacedName]*candidate{},
		reserve: reserve{filepath.Join(dir, "reserve")},
	}
	var err error
	if l.clock, err = clock.Open(filepath.Join(dir, "clock"), clock.Options{Log: log}); err != nil {
		t.Fatal(err)
	}
	if l.journal, err = audit.Open(filepath.Join(dir, "journal"), audit.Options{Log: log, Now: l.clock.Now}); err != nil {
		t.Fatal(err)
	}
	l.fetcher = jwks.NewFetcher(filepath.Join(dir, "jwks"), l.clock.Now, log)
	t.Cleanup(func() {
		l.fetcher.Close()
		if err := errors.Join(l.journal.Close(), l.clock.Close()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// started is one whose start is on record.
func started(t *testing.T) *Engine {
	t.Helper()
	l := begun(t)
	if err := l.journal.Append(t.Context(), entry(audit.KindStart, startRecord{})); err != nil {
		t.Fatal(err)
	}
	if err := l.replay(); err != nil {
		t.Fatal(err)
	}
	l.started = true
	return l
}

// tick is the housekeeping of run, and what follows until nothing is written.
func (l *Engine) tick(t *testing.T) {
	t.Helper()
	l.resting = false
	if l.stale() {
		l.reconcile(t.Context())
	}
	l.settleWrites(t)
}

func (l *Engine) settleWrites(t *testing.T) {
	t.Helper()
	for range 10 {
		if !l.writing {
			return
		}
		l.wrote(<-l.written)
		l.reconcile(t.Context())
	}
	t.Fatal("it does not come to rest")
}

func (l *Engine) kinds(t *testing.T) (all []string) {
	t.Helper()
	if err := l.journal.Replay(func(e audit.Entry) error { all = append(all, e.Kind); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// asked is a request over the control socket.
func asked(name string) (types.NamespacedName, *v1alpha1.Activation) {
	a := &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}, Spec: v1alpha1.ActivationSpec{
		TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "db"}}, Role: "db", Reason: "r", Incident: "I",
	}}
	return types.NamespacedName{Namespace: "pay", Name: name}, a
}

func TestAJournalThatCannotBeWrittenCountsAsAFailingLogUntilItIsWrittenAgain(t *testing.T) {
	l := started(t)
	l.reserve = reserve{filepath.Join(l.opts.DataDir, "no", "reserve")} // there is no room for it
	key, obj := asked("a")
	l.set.Activations = map[types.NamespacedName]*v1alpha1.Activation{key: obj}
	l.reconcile(t.Context())
	if l.failing() != "" {
		t.Fatal(l.failing())
	}
	l.settleWrites(t)
	if why := l.input(l.doubt()).AuditFailing; !strings.Contains(why, "reserve room") {
		t.Fatalf("what is open is served, because failing is %q", why)
	}
	if n := l.view.Load(); n.journalErr == nil || len(l.notReady()) != 1 {
		t.Errorf("one cause, told as %q", l.notReady())
	}
	start := l.result.Records[key].Start
	l.tick(t)
	if again := l.result.Records[key].Start; !again.Equal(start) {
		t.Errorf("seen first at %v, later at %v", start, again)
	}

	// Nothing is left to be written, and it stays so until it is tried. What closes
	// is written for all that, and mends nothing.
	l.set.Activations = nil
	for range 3 {
		l.tick(t)
		if l.failing() == "" {
			t.Fatal("it counts as mended, and is not")
		}
	}
	l.unwritten = append(l.unwritten, entry(audit.KindClock, clockStep{V: 1}))
	l.tick(t)
	if l.failing() == "" || len(l.unwritten) > 0 || !slices.Contains(l.kinds(t), audit.KindClock) {
		t.Errorf("failing %q, %d unwritten, in the journal %v", l.failing(), len(l.unwritten), l.kinds(t))
	}

	if err := os.Mkdir(filepath.Dir(l.reserve.path), 0o700); err != nil {
		t.Fatal(err)
	}
	l.tick(t)
	if l.failing() != "" {
		t.Errorf("it is mended, and failing is %q", l.failing())
	}
	l.tick(t)
	if got := strings.Join(l.kinds(t), " "); got != "start clock problem" {
		t.Errorf("in the journal: %s", got)
	}
}

// A policy alone on record, and the next start would open what this one refused
// because nothing was known of it.
func TestAFirstStartIsOnRecordWholeOrNotAtAll(t *testing.T) {
	l := begun(t)
	l.reserve = reserve{filepath.Join(l.opts.DataDir, "no", "reserve")}
	key, obj := asked("a")
	refused := activation.Fact{Event: activation.Requested, Record: activation.New(obj, activation.Manifest, "", l.now())}
	w := &write{opening: []activation.Fact{refused}}
	l.unwritten = append(l.unwritten, entry(audit.KindPolicy, policyRecord{Name: "emergency"}))
	l.fill(w)
	if err := l.write(t.Context(), w); err == nil || len(w.closing) != 1 || len(l.kinds(t)) != 0 {
		t.Errorf("%v: %v on record, %d entries to follow, of %s", err, l.kinds(t), len(w.closing), key)
	}
}

func TestARequestThatMeetsAFailingLogIsAnsweredAndNeverOpens(t *testing.T) {
	l := started(t)
	key, obj := asked("late")
	c, err := l.request(key, obj, control.Peer{})
	if err != nil {
		t.Fatal(err)
	}
	l.journalErr = errors.New("the disk is full") // in the moment between
	l.reconcile(t.Context())
	select {
	case err := <-c.recorded:
		if err == nil || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("answered: %v", err)
		}
	default:
		t.Error("whoever asked is not answered")
	}
	if _, err := l.request(key, obj, control.Peer{}); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("asked again: %v", err)
	}
	l.settleWrites(t)
	l.tick(t)
	if l.failing() != "" {
		t.Fatal(l.failing())
	}
	if r, known := l.records[key]; known || slices.Contains(l.kinds(t), audit.KindActivation) {
		t.Errorf("it is on record: %+v", r)
	}
	if _, err := l.request(key, obj, control.Peer{}); err != nil {
		t.Errorf("the name is not free again: %v", err)
	}
}

func TestARequestOnItsWayToTheRecordIsAnsweredByTheDisk(t *testing.T) {
	l := started(t)
	key, obj := asked("a")
	c, err := l.request(key, obj, control.Peer{})
	if err != nil {
		t.Fatal(err)
	}
	l.reconcile(t.Context()) // it is being written
	l.journalErr = errors.New("the disk is full")
	l.reconcile(t.Context())
	select {
	case err := <-c.recorded:
		t.Fatalf("answered before the disk: %v", err)
	default:
	}
	l.settleWrites(t)
	if err := <-c.recorded; err != nil {
		t.Error(err)
	}
	if r := l.records[key]; r.Origin != activation.Control {
		t.Errorf("%+v", r)
	}
}
