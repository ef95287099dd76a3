package agent

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnEnvoyIsReadyOnceItHasItsRoutesAndStaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agent{answered: time.Now()}
		live := func() string { return a.settle("e1", nil) }
		if why := a.settle("e1", errors.New("status 503")); !strings.Contains(why, "503") {
			t.Errorf("not live: %q", why)
		}
		a.answered = time.Now()
		if why := live(); why == "" {
			t.Error("it is ready at the first response")
		}
		time.Sleep(quiet - time.Millisecond)
		if why := live(); why == "" {
			t.Error("it is ready before it is quiet")
		}
		time.Sleep(time.Millisecond)
		if why := live(); why != "" {
			t.Errorf("it is quiet: %q", why)
		}
		a.answered = time.Now()
		if why := live(); why != "" {
			t.Errorf("a change made it not ready: %q", why)
		}
		if why := a.settle("e1", errors.New("DRAINING")); !strings.Contains(why, "DRAINING") {
			t.Errorf("it drains: %q", why)
		}
		a.settle("e2", errors.New("starting"))
		a.answered = time.Now()
		if why := a.settle("e2", nil); why == "" {
			t.Error("the next Envoy is ready because the one before was")
		}
	})
}

func TestAnEnvoyThatIsChangedAllTheTimeIsReadyToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agent{}
		for begin := time.Now(); ; time.Sleep(quiet / 5) {
			a.answered = time.Now()
			why := a.settle("e1", nil)
			if took := time.Since(begin); why == "" && took < settleMost || took > settleMost && why != "" {
				t.Fatalf("after %v: %q", took, why)
			} else if why == "" {
				return
			}
		}
	})
}

func TestReadinessSaysWhyNotAndDoesNotJudgeTheRecord(t *testing.T) {
	a := &agent{changed: make(chan struct{}), trouble: "certificate refused"}
	ask := func() (int, string) {
		w := httptest.NewRecorder()
		a.readyz(w, nil)
		return w.Code, w.Body.String()
	}
	a.set(report{}, a.settle("e1", errors.New("status 503: PRE_INITIALIZING")))
	if code, text := ask(); code != 503 || !strings.Contains(text, "PRE_INITIALIZING") || !strings.Contains(text, "certificate refused") {
		t.Errorf("%d %q", code, text)
	}
	a.set(report{ready: true, failing: "the disk is full"}, "")
	if code, text := ask(); code != 200 || !strings.Contains(text, "the disk is full") {
		t.Errorf("%d %q", code, text)
	}
}

func TestAChangedReportWakesThoseWhoWaitAndTheSameDoesNot(t *testing.T) {
	a := &agent{changed: make(chan struct{})}
	_, changed := a.now()
	a.set(report{}, "another reason")
	select {
	case <-changed:
		t.Error("the same report woke somebody")
	default:
	}
	a.set(report{epoch: "e1"}, "")
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	if r, _ := a.now(); r.epoch != "e1" {
		t.Errorf("%+v", r)
	}
}
