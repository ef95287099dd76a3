package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/render"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

var now = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

var repo = filepath.Join("..", "..", "examples", "repo")

func rendered(t *testing.T, set *source.Set) []byte {
	t.Helper()
	for _, p := range set.Problems {
		t.Error(p)
	}
	d, err := render.Render(set.Objects, render.Options{At: now, Opens: []render.Open{{Route: activation.HTTPRoute(types.NamespacedName{Namespace: "payments", Name: "db-failover"})}}, Full: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, dir string, set *source.Set) bool {
	t.Helper()
	changed, err := Write(dir, set.All())
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestWhatIsExportedRendersAsWhatItCameFrom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "copy")
	set := source.Load(repo)
	if !write(t, dir, set) {
		t.Error("nothing was written")
	}
	back := source.Load(dir)
	if len(back.Origins) != len(set.Origins) || len(set.Origins) == 0 {
		t.Errorf("%d objects came back, of %d", len(back.Origins), len(set.Origins))
	}
	if a, b := rendered(t, set), rendered(t, back); !bytes.Equal(a, b) {
		t.Error("another render")
	}
	// And again: what is in normal form stays as it is.
	if write(t, dir, back) {
		t.Error("the same objects were written again")
	}
}

func TestADirectoryIsReplacedAsAWhole(t *testing.T) {
	dir := t.TempDir()
	set := source.Load(repo)
	write(t, dir, set)
	first, err := os.Readlink(filepath.Join(dir, Link))
	if err != nil {
		t.Fatal(err)
	}
	less := source.Load(filepath.Join(repo, "policy.yaml"))
	if !write(t, dir, less) {
		t.Fatal("nothing was written")
	}
	if back := source.Load(dir); len(back.Origins) != len(less.Origins) || len(back.Problems) != 0 {
		t.Errorf("objects %v, problems %v", back.Origins, back.Problems)
	}
	// A reader may still be in the one before.
	if _, err := os.Stat(filepath.Join(dir, first)); err != nil {
		t.Errorf("the revision before is gone: %v", err)
	}
	write(t, dir, source.Load(filepath.Join(repo, "gateway.yaml")))
	if _, err := os.Stat(filepath.Join(dir, first)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the revision before the one before is still there: %v", err)
	}
	// There and back.
	write(t, dir, less)
	if back := source.Load(dir); len(back.Origins) != len(less.Origins) {
		t.Errorf("objects %v", back.Origins)
	}
}

func TestWhatACrashLeftIsNoObstacle(t *testing.T) {
	dir := t.TempDir()
	set := source.Load(repo)
	files, err := filesOf(set.All())
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, prefix+digest(files)+".tmp", "httproute")
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "x.yaml"), []byte("kind: Nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, prefix+"link.tmp")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, set)
	back := source.Load(dir)
	if len(back.Problems) != 0 || len(back.Origins) != len(set.Origins) {
		t.Errorf("problems %v, %d objects", back.Problems, len(back.Origins))
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("want the link and one revision, got %v (%v)", entries, err)
	}
}

// linked is what dir/manifests leads to.
func linked(t *testing.T, dir string) string {
	t.Helper()
	to, err := os.Readlink(filepath.Join(dir, Link))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, to)
}

func TestARemovalThatWasInterruptedLeavesNothingThatPassesForARevision(t *testing.T) {
	dir := t.TempDir()
	a, b, c := source.Load(repo), source.Load(filepath.Join(repo, "policy.yaml")), source.Load(filepath.Join(repo, "gateway.yaml"))
	write(t, dir, a)
	first := linked(t, dir)
	write(t, dir, b)
	powerCut := errors.New("the power went")
	removeAll = func(path string) error {
		if err := os.RemoveAll(filepath.Join(path, "httproute")); err != nil {
			return err
		}
		return powerCut
	}
	t.Cleanup(func() { removeAll = os.RemoveAll })
	if _, err := Write(dir, c.All()); !errors.Is(err, powerCut) {
		t.Fatalf("error %v", err)
	}
	removeAll = os.RemoveAll
	if _, err := os.Stat(first); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a revision still has its name: %v", err)
	}
	write(t, dir, a)
	if back := source.Load(dir); len(back.Origins) != len(a.Origins) {
		t.Errorf("%d objects of %d", len(back.Origins), len(a.Origins))
	}
	left, err := filepath.Glob(filepath.Join(dir, prefix+"*.tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v (%v)", left, err)
	}
}

func TestWhatAnInterruptedExportLeftIsRemovedAlsoIfNothingChanged(t *testing.T) {
	dir := t.TempDir()
	set := source.Load(repo)
	write(t, dir, set)
	left := filepath.Join(dir, prefix+"old.tmp")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if write(t, dir, set) {
		t.Error("the same objects were written again")
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestWhatWasChangedInARevisionIsWrittenAnew(t *testing.T) {
	stray := []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: stray}\n")
	set := source.Load(repo)
	want := rendered(t, set)
	policyOf := func(r string) string { return filepath.Join(r, "emergencypolicy", "emergency.yaml") }
	for name, change := range map[string]func(revision string) error{
		"a file added":   func(r string) error { return os.WriteFile(filepath.Join(r, "namespace", "stray.yaml"), stray, 0o600) },
		"one at the top": func(r string) error { return os.WriteFile(filepath.Join(r, "stray.yaml"), stray, 0o600) },
		"a file edited":  func(r string) error { return os.WriteFile(policyOf(r), stray, 0o600) },
		"a file removed": func(r string) error { return os.Remove(policyOf(r)) },
		"a file made a link": func(r string) error {
			elsewhere := filepath.Join(r, "..", "..", "policy.yaml")
			return errors.Join(os.Rename(policyOf(r), elsewhere), os.Symlink(elsewhere, policyOf(r)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			write(t, dir, set)
			for range 2 { // and again, in what was written anew
				before := linked(t, dir)
				if err := change(before); err != nil {
					t.Fatal(err)
				}
				if !write(t, dir, set) {
					t.Error("nothing was written")
				}
				if now := linked(t, dir); now == before {
					t.Error("a reader would see it half: it has the same name")
				}
				if !bytes.Equal(want, rendered(t, source.Load(dir))) {
					t.Error("another render")
				}
				if write(t, dir, set) {
					t.Error("the same objects were written again")
				}
			}
		})
	}
}

func TestADirectoryThatSomebodyElseWroteIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(dir, source.Load(repo).All()); err == nil || !strings.Contains(err.Error(), "policy.yaml") {
		t.Errorf("error %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("entries %v, %v", entries, err)
	}
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "copy")
	sec := &corev1.Secret{Data: map[string][]byte{"tls.key": []byte("k")}}
	sec.Namespace, sec.Name = "door", "tls"
	key := source.ObjectKey{Kind: "Secret", Namespace: "door", Name: "tls"}
	if _, err := Write(dir, []source.Object{{Key: key, Object: sec}}); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if e.Type() != fs.ModeSymlink && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := source.Load(dir).Secrets[types.NamespacedName{Namespace: "door", Name: "tls"}]; got == nil || string(got.Data["tls.key"]) != "k" {
		t.Errorf("the Secret came back as %v", got)
	}
}
