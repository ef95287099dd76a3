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

func TestTheLoginIsToldWhereItIsAnotherThanTheUser(t *testing.T) {
	for want, p := range map[string]Peer{
		"unix:user=root,uid=0,login=1000": {User: "root", Login: "1000"}, "unix:uid=0,login=1000": {Login: "1000"},
		"unix:user=alice,uid=1000": {User: "alice", UID: 1000, Login: "1000"}, "unix:user=root,uid=0": {User: "root"},
	} {
		if got := p.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
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
