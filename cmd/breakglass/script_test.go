package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control/controltest"
	"github.com/breakglass-gateway/breakglass-gateway/internal/disclose"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"breakglass": func() { os.Exit(run()) }})
}

// TestScripts runs testdata/script/*.txtar. $EXAMPLES is the directory examples. A
// script has these commands of ours:
//
//	serve [SCENARIO]   a fake serve on $WORK/data; SCENARIO says what becomes of an activation,
//	                   repo that it has the manifests of $WORK/repo in use
//	stop               ends it
//	add FILE           an activation that is there already, as JSON
//	set NAME PHASE     moves payments/NAME on
//	waiting            waits until somebody waits for an activation
//	log DIR [WHAT]     writes an audit log, or goes on with it; see scriptLog
//	copy FROM TO       copies a directory
//	edit FILE OLD NEW  replaces a text that must be there
//	holds FILE TEXT    waits until there is TEXT in FILE
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("BREAKGLASS_DATA_DIR", filepath.Join(env.WorkDir, "data"))
			env.Setenv("TZ", "UTC")
			// The race detector would make each command last a second longer.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			examples, err := filepath.Abs(filepath.Join("..", "..", "examples"))
			if err != nil {
				return err
			}
			env.Setenv("EXAMPLES", examples)
			env.Values[fakeKey{}] = &fake{}
			env.Defer(env.Values[fakeKey{}].(*fake).stop)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":   func(ts *testscript.TestScript, _ bool, args []string) { fakeOf(ts).serve(ts, args) },
			"stop":    func(ts *testscript.TestScript, _ bool, _ []string) { fakeOf(ts).stop() },
			"add":     func(ts *testscript.TestScript, _ bool, args []string) { fakeOf(ts).add(ts, args[0]) },
			"set":     func(ts *testscript.TestScript, _ bool, args []string) { fakeOf(ts).set(args[0], args[1]) },
			"waiting": func(ts *testscript.TestScript, _ bool, _ []string) { fakeOf(ts).waiting(ts) },
			"log":     func(ts *testscript.TestScript, _ bool, args []string) { scriptLog(ts, args) },
			"copy": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(args[0])))
			},
			"edit":  func(ts *testscript.TestScript, _ bool, args []string) { edit(ts, args[0], args[1], args[2]) },
			"holds": func(ts *testscript.TestScript, _ bool, args []string) { holds(ts, args[0], args[1]) },
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

type fakeKey struct{}

// fake is the serve of one script.
type fake struct {
	backend *controltest.Backend
	end     func()
}

func fakeOf(ts *testscript.TestScript) *fake { return ts.Value(fakeKey{}).(*fake) }

func (f *fake) serve(ts *testscript.TestScript, args []string) {
	f.backend = &controltest.Backend{Fixed: fixedStatus(), Entries: entries()}
	for _, a := range args {
		switch a {
		case "empty":
			f.backend.Fixed = control.Status{Version: "test", Now: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC), NotReady: []string{"no manifests yet"}}
			continue
		case "repo":
			f.backend.Manifests = manifestsOf(ts, ts.MkAbs("repo"))
			continue
		case "silent":
			f.backend.Fixed.Alarms = &control.AlarmStatus{Problem: "no alarm sink is configured"}
			continue
		case "full":
			f.backend.TimelineErr = control.Errorf(control.Unavailable, "the disk is failing")
		}
		f.backend.OnActivate = scenarios[a]
	}
	s, err := control.Listen(ts.MkAbs("data"), f.backend, nil)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	f.end = func() { cancel(); <-done }
}

// manifestsOf a directory, as serve tells of them.
func manifestsOf(ts *testscript.TestScript, dir string) control.Objects {
	out := control.Objects{ConfigDir: dir}
	set := source.Load(dir)
	for _, o := range set.All() {
		told, err := disclose.Object(o.Object, set.Policies)
		ts.Check(err)
		file, err := filepath.Rel(dir, o.Origin.File)
		ts.Check(err)
		out.Items = append(out.Items, control.Object{File: file, Line: o.Origin.Line, Manifest: told.Manifest, Withheld: told.Withheld, Data: told.Data})
	}
	return out
}

func (f *fake) stop() {
	if f.end != nil {
		f.end()
		f.end = nil
	}
}

func (f *fake) add(ts *testscript.TestScript, file string) {
	var a v1alpha1.Activation
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &a))
	f.backend.Add(&a)
}

func (f *fake) set(name, phase string) {
	f.backend.Update(types.NamespacedName{Namespace: "payments", Name: name}, func(a *v1alpha1.Activation) {
		a.Status = status(v1alpha1.Phase(phase), "DeadlinePassed", "closed at its deadline")
	})
}

func (f *fake) waiting(ts *testscript.TestScript) {
	for range 5000 {
		if f.backend.Waiting() > 0 {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	ts.Fatalf("nobody waits")
}

func edit(ts *testscript.TestScript, file, from, to string) {
	text := ts.ReadFile(file)
	if !strings.Contains(text, from) {
		ts.Fatalf("%s does not hold %q", file, from)
	}
	ts.Check(os.WriteFile(ts.MkAbs(file), []byte(strings.Replace(text, from, to, 1)), 0o600))
}

func holds(ts *testscript.TestScript, file, text string) {
	for range 5000 {
		if b, err := os.ReadFile(ts.MkAbs(file)); err == nil && strings.Contains(string(b), text) {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	ts.Fatalf("%s does not come to hold %q", file, text)
}

var scenarios = map[string]func(*v1alpha1.Activation) (v1alpha1.ActivationStatus, error){
	"live": func(a *v1alpha1.Activation) (v1alpha1.ActivationStatus, error) {
		st := status(v1alpha1.PhaseLive, "Live", "")
		st.URLs = []string{"http://db.emergency.invalid:18080/v1/promote"}
		return st, nil
	},
	"refused": func(*v1alpha1.Activation) (v1alpha1.ActivationStatus, error) {
		return status(v1alpha1.PhaseRefused, "RoleMismatch", `only role "db-failover" opens HTTPRoute payments/db-failover`), nil
	},
	"pending": func(*v1alpha1.Activation) (v1alpha1.ActivationStatus, error) {
		return status(v1alpha1.PhasePending, "RouteNotFound", "HTTPRoute payments/db-failover does not exist: add the route"), nil
	},
	"invalid": func(*v1alpha1.Activation) (v1alpha1.ActivationStatus, error) {
		return v1alpha1.ActivationStatus{}, control.InvalidError("the Activation is not valid", "spec.role: too long: choose another")
	},
	"full": func(*v1alpha1.Activation) (v1alpha1.ActivationStatus, error) {
		return v1alpha1.ActivationStatus{}, control.Errorf(control.Unavailable, "the request cannot be recorded, so nothing opens: no space left on device")
	},
}

func status(p v1alpha1.Phase, reason, message string) v1alpha1.ActivationStatus {
	live := metav1.Condition{Type: v1alpha1.ConditionLive, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if p == v1alpha1.PhaseLive {
		live.Status = metav1.ConditionTrue
	}
	return v1alpha1.ActivationStatus{Phase: p, Conditions: []metav1.Condition{live}}
}

func fixedStatus() control.Status {
	match := func(method, path string) control.MatchStatus { return control.MatchStatus{Method: method, Path: path} }
	return control.Status{
		Version: "test", Ready: false, NotReady: []string{"Gateway breakglass/spare: Envoy does not start"}, ClockBehind: "3s",
		Objects: map[string]int{"Gateway": 2, "HTTPRoute": 3},
		Gateways: []control.GatewayStatus{
			{Namespace: "breakglass", Name: "emergency", Class: "emergency", Policy: "emergency", Listeners: []control.ListenerStatus{
				{Name: "http", Hostname: "*.emergency.invalid", Protocol: "HTTP", Port: 18080, Address: "127.0.0.1", Programmed: true, AttachedRoutes: 2},
			}, Envoy: control.EnvoyStatus{PID: 7, Ready: true, Connected: true, Restarts: 1}},
			{Namespace: "breakglass", Name: "spare", Class: "emergency", Policy: "emergency", Envoy: control.EnvoyStatus{LastError: "cannot bind"}},
		},
		Routes: []control.RouteStatus{
			{Namespace: "payments", Name: "db-failover", Role: "db-failover", Hostnames: []string{"db.emergency.invalid"}, Accepted: true,
				Reason: "Dormant", Message: "no activation is open", Gateways: []string{"breakglass/emergency"},
				Matches: []control.MatchStatus{match("POST", "/v1/promote"), match("GET", "/v1/promote"), match("GET", "/v1/status")}},
			{Namespace: "payments", Name: "twin", Role: "db-failover", Accepted: true, Live: true, Gateways: []string{"breakglass/emergency"}},
			{Namespace: "payments", Name: "lame", Role: "db-failover", Accepted: true, Reason: "BackendNotFound", Message: "no Service x: add it"},
			{Namespace: "payments", Name: "thin", Role: "db-failover", Accepted: true, Live: true, Reason: "Live", Message: "open for role db-failover until noon; Service y has no endpoint"},
			{Namespace: "delivery", Name: "twin", Reason: "NoMatchingParent", Message: "no such Gateway: correct spec.parentRefs\x1b[2J\nGATEWAY forged"},
		},
		Policies: []control.PolicyStatus{{Name: "emergency", Accepted: true, Issuers: []control.IssuerStatus{
			{Name: "sso", Keys: 2, Stale: true}, {Name: "offline", Keys: 1, Offline: true}, {Name: "old", Error: "no usable keys"},
		}}, {Name: "twice", Accepted: true, Message: "issuer a: gone", Issuers: []control.IssuerStatus{{Name: "a", Error: "gone"}}}},
		Problems: []control.Problem{{File: "routes/x.yaml", Line: 12, Object: "HTTPRoute delivery/x", Field: "spec.rules", Message: "too many", Remedy: "split it"},
			{File: "routes/y.yaml", Line: 3, Message: "not valid YAML", Remedy: "correct it", LastGood: true}},
	}
}

func entries() []control.TimelineEntry {
	now := time.Now()
	return []control.TimelineEntry{
		{Seq: 1, Time: now.Add(-2 * time.Hour), Kind: "start"},
		{Seq: 2, Time: now.Add(-time.Minute), Kind: "activation", Event: "opened", Who: "unix:user=alice,uid=1000",
			Object: "Activation payments/inc-1", Role: "db-failover", Incident: "INC-1", Data: json.RawMessage(`{"a":1}`)},
		{Seq: 3, Time: now, Kind: "request", Event: "denied", Who: "mallory", Message: "403\nforged line"},
	}
}

// A script under another name would pass by not being there.
func TestScriptsAreAllRun(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "script", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f, ".txtar") {
			t.Error(fmt.Errorf("%s is not run: name it .txtar", f))
		}
	}
}
