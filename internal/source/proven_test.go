package source

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

const (
	goodActivation = "apiVersion: breakglass.dev/v1alpha1\nkind: Activation\nmetadata: {name: a, namespace: pay}\n" +
		"spec: {targetRefs: [{kind: HTTPRoute, name: r}], role: db, reason: x, incident: I, duration: 10m}\n"
	badActivation = "apiVersion: breakglass.dev/v1alpha1\nkind: Activation\nmetadata: {name: b, namespace: pay}\n" +
		"spec: {targetRefs: [], role: db, reason: x, incident: I}\n"
)

// scan is what a process makes of a directory, with what an earlier one has proven.
func scan(t *testing.T, dir, file string) (*Set, *proven) {
	t.Helper()
	good := readProven(file)
	s := newScanner(0, good)
	tree := newTree(nil)
	tree.addRoot(dir)
	old := time.Now().Add(time.Hour) // whatever was written is settled by then
	s.apply(tree, old)
	set := s.state.settle(old)
	good.save()
	return set, good
}

func TestWhatWasProvenIsNotValidatedAgainAndSaysTheSame(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "proven")
	writeOld(t, dir, "good.yaml", goodActivation)
	writeOld(t, dir, "bad.yaml", badActivation)
	first, p := scan(t, dir, file)
	if len(first.Activations) != 1 || len(first.Problems) == 0 || len(p.known) != 1 {
		t.Fatalf("%d activations, problems %v, %d proven", len(first.Activations), first.Problems, len(p.known))
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	second, p := scan(t, dir, file)
	if !reflect.DeepEqual(first.Activations, second.Activations) || !reflect.DeepEqual(first.Problems, second.Problems) {
		t.Errorf("a second start says %+v %v, the first %+v %v", second.Activations, second.Problems, first.Activations, first.Problems)
	}
	if p.fresh || len(p.known) != 1 {
		t.Errorf("a second start validated again: %+v", p.known)
	}
}

func TestOnlyThisProgramsOwnWholeFileProves(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "proven")
	writeOld(t, dir, "bad.yaml", badActivation)
	p := readProven(file)
	p.add(sha256.Sum256([]byte(badActivation)))
	p.save()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	taken := func() bool {
		set, _ := scan(t, dir, file)
		return len(set.Activations) == 1
	}
	if !taken() {
		t.Fatal("the file is not believed at all: the test proves nothing")
	}
	for i := range len(whole) {
		for _, b := range [][]byte{append(append([]byte(nil), whole[:i]...), append([]byte{whole[i] ^ 1}, whole[i+1:]...)...), whole[:i]} {
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if taken() {
				t.Fatalf("%d bytes, different from byte %d on, are believed", len(b), i)
			}
		}
	}
}

func writeOld(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
