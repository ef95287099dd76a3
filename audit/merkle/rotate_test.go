package merkle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"
)

func TestWhoTrustsAnOldKeyCanTrustTheNewOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l := open(t, dir, Options{SegmentBytes: 900, Retention: -1})
	first := pubKeys(t, dir)
	add(t, l, 0, 3)
	var kept [][]byte
	for i := range 3 {
		if err := l.RotateKey(); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, l.Checkpoint())
		add(t, l, 3+i, 4+i)
	}
	closeLog(t, l)
	keys := pubKeys(t, dir)
	if len(keys) != 4 || keys[0] != first[0] || len(slices.Compact(slices.Sorted(slices.Values(keys)))) != 4 {
		t.Fatalf("audit.pub has %q", keys)
	}
	if _, err := os.Stat(filepath.Join(dir, nextKeyName)); err == nil {
		t.Fatal("the new key is there twice")
	}
	r := sound(t, dir, VerifyOptions{Keys: first, Checkpoints: kept})
	if !reflect.DeepEqual(r.Keys, keys) {
		t.Fatalf("trusted %q, want %q", r.Keys, keys)
	}
	sound(t, dir, VerifyOptions{Checkpoints: kept})
	// Who has the newest only trusts the newest checkpoint, and all that is below.
	sound(t, dir, VerifyOptions{Keys: keys[3:], Checkpoints: kept[2:]})
	// The first checkpoint after a change is signed with both.
	for i, k := range kept {
		if head, err := openHead(k, keys); err != nil || !slices.Equal(head.by, keys[i:i+2]) {
			t.Fatalf("checkpoint %d is signed by %q: %v", i, head.by, err)
		}
	}
	l = open(t, dir, Options{})
	add(t, l, 6, 8)
	closeLog(t, l)
	if head, err := openHead(l.Checkpoint(), keys[3:]); err != nil || len(head.by) != 1 {
		t.Fatal(head.by, err)
	}
}

func TestAHandoverThatTheOldKeyDidNotSignIsFound(t *testing.T) {
	for name, handover := range map[string]func(head treeHead, old, thief signingKey) []byte{
		"nothing":      func(treeHead, signingKey, signingKey) []byte { return []byte("nothing") },
		"not the old":  func(h treeHead, _, thief signingKey) []byte { return signed(t, h, thief) },
		"not the new":  func(h treeHead, old, _ signingKey) []byte { return signed(t, h, old) },
		"another tree": func(h treeHead, old, thief signingKey) []byte { h.size--; return signed(t, h, old, thief) },
		"another key":  func(h treeHead, old, thief signingKey) []byte { h.rest = ""; return signed(t, h, old, thief) },
	} {
		dir := filepath.Join(t.TempDir(), "log")
		l := open(t, dir, Options{Origin: "o.example"})
		add(t, l, 0, 3)
		thief, _, err := newKey("o.example")
		if err != nil {
			t.Fatal(err)
		}
		old := l.keys[0]
		err = l.append(t.Context(), &batch{
			drafts: []Draft{{Kind: KindKey}}, vkey: old.vkey,
			fill: func(at tip) (json.RawMessage, error) {
				head := treeHead{"o.example", at.tree.n, at.tree.root(), handoverLine(thief.vkey), nil}
				return json.Marshal(keyData{old.vkey, thief.vkey, string(handover(head, old, thief))})
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
		r := verify(t, dir, VerifyOptions{Keys: []string{old.vkey}})
		finds(t, r, "handover")
		if slices.Contains(r.Keys, thief.vkey) {
			t.Fatalf("%s: trusted", name)
		}
	}
}

func signed(t *testing.T, h treeHead, by ...note.Signer) []byte {
	t.Helper()
	b, err := note.Sign(&note.Note{Text: h.text()}, by...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAKeyThatWasGivenUpSignsNothingMore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l := open(t, dir, Options{})
	old := l.keys[0]
	add(t, l, 0, 3)
	if err := l.RotateKey(); err != nil {
		t.Fatal(err)
	}
	add(t, l, 3, 5)
	closeLog(t, l)
	head, err := readHead(l.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	forged := signed(t, head, old)
	finds(t, verify(t, dir, VerifyOptions{Checkpoints: [][]byte{forged}}), "and the log says that")
	write(t, filepath.Join(dir, checkpointName), forged)
	finds(t, verify(t, dir, VerifyOptions{}), "checkpoint:0", "and the log says that")
}

// steps of a change of the key, each as the files are when a crash comes then.
func TestAChangeOfTheKeySurvivesACrashAtEachStep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	d := &disk{}
	l := open(t, dir, Options{open: d.open, Retention: -1})
	add(t, l, 0, 3)
	var states []string
	snap := func() { states = append(states, copyDir(t, dir)) }
	busy := false
	d.set(func(op, name string) error {
		// Before and while each file is written; copying does not come back here.
		if !busy {
			busy = true
			snap()
			busy = false
		}
		return nil
	})
	if err := l.RotateKey(); err != nil {
		t.Fatal(err)
	}
	d.set(nil)
	snap()
	closeLog(t, l)
	// The last step, before the rename.
	before := copyDir(t, dir)
	_ = os.Rename(filepath.Join(before, keyName), filepath.Join(before, nextKeyName))
	write(t, filepath.Join(before, keyName), read(t, filepath.Join(states[0], keyName)))
	states = append(states, before)
	if len(states) < 10 {
		t.Fatalf("only %d states", len(states))
	}
	old, taken, back := pubKeys(t, states[0]), 0, 0
	for i, s := range states {
		l := open(t, s, Options{Retention: -1})
		add(t, l, 3, 5)
		closeLog(t, l)
		if got := numbers(t, s); !reflect.DeepEqual(got, upTo(5)) {
			t.Fatalf("state %d: %v", i, got)
		}
		keys := pubKeys(t, s)
		if head, err := openHead(l.Checkpoint(), keys[len(keys)-1:]); err != nil {
			t.Fatalf("state %d: not signed with the newest key: %v, by %q", i, err, head.by)
		}
		if _, err := os.Stat(filepath.Join(s, nextKeyName)); err == nil {
			t.Fatalf("state %d: the change is not at an end", i)
		}
		sound(t, s, VerifyOptions{Keys: old})
		sound(t, s, VerifyOptions{})
		if taken++; len(keys) == 1 {
			taken--
			back++
		}
		l = open(t, s, Options{Retention: -1})
		if err := l.RotateKey(); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
		sound(t, s, VerifyOptions{Keys: old})
	}
	if taken == 0 || back == 0 {
		t.Fatalf("%d states went on, %d went back", taken, back)
	}
}

func TestAChangeOfTheKeyOnAFullDiskCanBeDoneAgain(t *testing.T) {
	for n := 1; n < 25; n++ {
		dir := filepath.Join(t.TempDir(), "log")
		d := &disk{}
		l := open(t, dir, Options{open: d.open})
		add(t, l, 0, 3)
		old := pubKeys(t, dir)
		count := 0
		d.set(func(op, name string) error {
			if count++; count >= n {
				return errFull
			}
			return nil
		})
		err := l.RotateKey()
		crashed := copyDir(t, dir)
		d.set(nil)
		if err == nil && count >= n {
			t.Fatalf("operation %d failed, and nobody was told", n)
		}
		if err != nil && !strings.Contains(err.Error(), unix.ENOSPC.Error()) {
			t.Fatal(err)
		}
		add(t, l, 3, 4)
		if err != nil {
			if err := l.RotateKey(); err != nil {
				t.Fatalf("after operation %d: %v", n, err)
			}
		}
		add(t, l, 4, 5)
		closeLog(t, l)
		if keys := pubKeys(t, dir); len(keys) != 2 {
			t.Fatalf("after operation %d: %q", n, keys)
		}
		sound(t, dir, VerifyOptions{Keys: old})
		closeLog(t, open(t, crashed, Options{}))
		sound(t, crashed, VerifyOptions{Keys: old})
	}
}
