package control

import (
	"os/user"
	"sync/atomic"
	"testing"
	"time"
)

func TestNameThatCannotBeHadInTimeIsLeftOut(t *testing.T) {
	n := newNames()
	n.wait = time.Millisecond
	release := make(chan struct{})
	var known atomic.Bool
	n.lookup = func(string) (*user.User, error) {
		if known.Load() {
			t.Error("asked again for a name that is known")
		}
		<-release
		return &user.User{Username: "alice"}, nil
	}
	if got := (Peer{UID: 1000, User: n.of(t.Context(), 1000)}).String(); got != "unix:uid=1000" {
		t.Errorf("while the directory service is down: %s", got)
	}
	close(release)
	n.wait = time.Minute
	if got := (Peer{UID: 1000, User: n.of(t.Context(), 1000)}).String(); got != "unix:user=alice,uid=1000" {
		t.Errorf("once it is back: %s", got)
	}
	known.Store(true)
	if got := n.of(t.Context(), 1000); got != "alice" {
		t.Errorf("a name that is known: %s", got)
	}
}

func TestNameThatReadsAsMoreIsLeftOut(t *testing.T) {
	for name, want := range map[string]string{
		"alice": "alice", `CORP\alice`: `CORP\alice`, "svc-1$": "svc-1$", "root,uid=0": "", "a b": "", "a=b": "", "a\nb": "", "zoë": "",
	} {
		if got := plainName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
