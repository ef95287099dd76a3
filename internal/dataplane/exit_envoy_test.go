//go:build envoy

package dataplane

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// exits is what OnExit was told.
type exits struct {
	mu   sync.Mutex
	list []string
}

func (x *exits) add(epoch string, clean bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = append(x.list, fmt.Sprintf("%s %t", epoch, clean))
}

func (x *exits) want(t *testing.T, want ...string) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !slices.Equal(x.list, want) {
		t.Errorf("told of %v, want %v", x.list, want)
	}
}

func TestTheOwnerLearnsOfEachProcessThatIsGone(t *testing.T) {
	c := envoyConfig(t)
	var told exits
	c.OnExit = told.add

	first, pid := startElsewhere(t, c, time.Time{})
	epoch := readRecord(c.dir()).Epoch
	if len(epoch) != 16 {
		t.Fatalf("epoch on record %q", epoch)
	}
	kill(first)
	killPID(t, pid)
	eventually(t, "the orphan is gone", func() bool { return !locked(t, c, fileEnvoyLock) })
	e := start(t, c)
	told.want(t, epoch+" false") // found dead
	next := e.State().Epoch
	if next == epoch {
		t.Error("two processes of one epoch")
	}
	e.Detach()
	told.want(t, epoch+" false")

	e = start(t, c)
	if s := e.State(); !s.Adopted || s.Epoch != next {
		t.Errorf("state %+v, want epoch %s adopted", s, next)
	}
	ready(t, e)
	stop(t, e)
	stop(t, e)
	told.want(t, epoch+" false", next+" true")

	e = start(t, c)
	replaced := e.State().Epoch
	ready(t, e)
	e.Detach()
	c.NodeID = "another"
	e = start(t, c)
	told.want(t, epoch+" false", next+" true", replaced+" true")
	stop(t, e)
}

func TestAnUnrecordedEnvoyKnowsItsEpochItself(t *testing.T) {
	c := envoyConfig(t)
	var told exits
	c.OnExit = told.add
	first, _ := startElsewhere(t, c, time.Time{})
	rec := readRecord(c.dir())
	kill(first)
	// As if the control plane had died before it recorded the successor of another.
	unrecorded := rec.Epoch
	rec.PID, rec.Epoch = 1, "0123456789abcdef"
	if err := rec.write(c.dir()); err != nil {
		t.Fatal(err)
	}
	start(t, c)
	told.mu.Lock()
	defer told.mu.Unlock()
	if len(told.list) != 2 || told.list[0] != "0123456789abcdef false" || told.list[1][:16] != unrecorded {
		t.Errorf("told of %v, want the recorded one and %s", told.list, unrecorded)
	}
}
