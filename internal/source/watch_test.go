package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// watched is a directory that is followed. Rescanning is off unless a test asks
// for it, so that events have to do the work.
type watched struct {
	t    *testing.T
	dir  string
	w    *Watcher
	last *Set
	stop context.CancelFunc
}

func follow(t *testing.T, dir string, opts Options) *watched {
	t.Helper()
	opts.Dir = dir
	if opts.Rescan == 0 {
		opts.Rescan = time.Hour
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	w, err := Watch(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	f := &watched{t: t, dir: dir, w: w, stop: stop}
	f.next()
	return f
}

func (f *watched) next() *Set {
	f.t.Helper()
	select {
	case set, ok := <-f.w.Updates():
		if !ok {
			f.t.Fatal("the channel is closed")
		}
		f.last = set
		return set
	case <-time.After(patience):
		f.t.Fatalf("no update; problems %v", f.last.Problems)
		return nil
	}
}

// until receives Sets until one fits, and holds every one against always.
func (f *watched) until(what string, fits func(*Set) bool, always ...func(*Set)) *Set {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	for set := f.last; ; set = f.next() {
		for _, check := range always {
			check(set)
		}
		if fits(set) {
			return set
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("never: %s; problems %v", what, set.Problems)
		}
	}
}

func (f *watched) write(name, text string) {
	f.t.Helper()
	write(f.t, filepath.Join(f.dir, name), text)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}

func nn(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: name}
}

// value of a ConfigMap made by configMap, or - if there is none.
func value(s *Set, name string) string {
	if c := s.ConfigMaps[nn(name)]; c != nil {
		return c.Data["value"]
	}
	return "-"
}

func has(name, want string) func(*Set) bool {
	return func(s *Set) bool { return value(s, name) == want }
}

func problem(part string) func(*Set) bool {
	return func(s *Set) bool {
		for _, p := range s.Problems {
			if strings.Contains(p.Error(), part) {
				return true
			}
		}
		return false
	}
}

func noProblems(s *Set) bool { return len(s.Problems) == 0 }

func TestTheFirstSetIsComplete(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		write(t, filepath.Join(dir, fmt.Sprintf("d%d/c%d.yaml", i%7, i)), configMap(fmt.Sprintf("c%d", i), "1"))
	}
	f := follow(t, dir, Options{})
	if len(f.last.ConfigMaps) != 50 || !noProblems(f.last) {
		t.Errorf("%d objects, problems %v", len(f.last.ConfigMaps), f.last.Problems)
	}
}

func TestFilesAreFollowedAsTheyComeChangeAndGo(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	f.write("a.yaml", configMap("a", "1"))
	f.until("added", has("a", "1"))
	f.write("a.yaml", configMap("a", "2"))
	f.until("changed", has("a", "2"))
	f.write("b.json", `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"value": "1"}}`)
	f.until("json", has("b", "1"))
	f.write("sub/deep/c.yml", configMap("c", "1"))
	f.until("new directories", has("c", "1"))
	f.write("sub/deep/c.yml", configMap("c", "2"))
	f.until("new directories are watched", has("c", "2"))
	must(t, os.Rename(filepath.Join(f.dir, "a.yaml"), filepath.Join(f.dir, "sub", "moved.yaml")))
	set := f.until("moved", func(s *Set) bool {
		return s.Origins[ObjectKey{"ConfigMap", "default", "a"}].File == filepath.Join(f.dir, "sub", "moved.yaml")
	}, func(s *Set) {
		if value(s, "a") != "2" {
			t.Error("gone while it was moved")
		}
	})
	if !noProblems(set) {
		t.Error(set.Problems)
	}
	must(t, os.RemoveAll(filepath.Join(f.dir, "sub")))
	f.until("directory removed", func(s *Set) bool { return value(s, "a") == "-" && value(s, "c") == "-" })
	must(t, os.Remove(filepath.Join(f.dir, "b.json")))
	f.until("removed", has("b", "-"))
	if len(f.last.Origins) != 0 {
		t.Error(f.last.Origins)
	}
}

func TestWhatIsNoManifestIsIgnored(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "README.txt"), "not: [yaml")
	write(t, filepath.Join(dir, "Makefile"), "\t\x00")
	write(t, filepath.Join(dir, ".hidden.yaml"), configMap("hidden", "1"))
	write(t, filepath.Join(dir, ".git", "a.yaml"), configMap("hidden", "1"))
	write(t, filepath.Join(dir, "..data", "a.yaml"), configMap("hidden", "1"))
	write(t, filepath.Join(dir, "a.yaml"), "# nothing\n---\n")
	set := Load(dir)
	if len(set.ConfigMaps) != 0 || !noProblems(set) {
		t.Errorf("%v, %v", set.ConfigMaps, set.Problems)
	}
}

func TestAnObjectThatDidNotChangeIsTheSamePointer(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	f.write("a.yaml", configMap("a", "1")+"---\n"+configMap("b", "1"))
	f.write("c.yaml", configMap("c", "1"))
	before := f.until("both", func(s *Set) bool { return value(s, "b") == "1" && value(s, "c") == "1" })
	f.write("a.yaml", "# moved down, and b reformatted\n"+configMap("a", "2")+"---\n# b\n"+configMap("b", "1"))
	after := f.until("changed", has("a", "2"))
	if before.ConfigMaps[nn("b")] != after.ConfigMaps[nn("b")] || before.ConfigMaps[nn("c")] != after.ConfigMaps[nn("c")] {
		t.Error("an unchanged object has a new pointer")
	}
	if value(before, "a") != "1" {
		t.Error("a published Set was changed")
	}
	if got := after.Origins[ObjectKey{"ConfigMap", "default", "b"}].Line; got != 8 {
		t.Errorf("b is at line %d", got)
	}
}

func TestAnUnparsableFileKeepsItsLastGoodObjects(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	f.write("a.yaml", configMap("a", "1")+"---\n"+configMap("b", "1"))
	f.until("good", has("b", "1"))
	f.write("a.yaml", configMap("a", "2")+"---\nb: [\n")
	set := f.until("reported", problem("a.yaml:6: not valid YAML"))
	if value(set, "a") != "1" || value(set, "b") != "1" || !set.Problems[0].LastGood ||
		strings.Contains(set.Problems[0].Remedy, "nothing of this file is used") {
		t.Errorf("a %s, b %s, %+v", value(set, "a"), value(set, "b"), set.Problems)
	}
	f.write("other.yaml", configMap("other", "1"))
	f.until("others go on", has("other", "1"))
	f.write("a.yaml", configMap("a", "2"))
	f.until("put right", func(s *Set) bool { return noProblems(s) && value(s, "a") == "2" && value(s, "b") == "-" })
	f.write("a.yaml", "{")
	f.until("broken again", problem("a.yaml"))
	must(t, os.Remove(filepath.Join(f.dir, "a.yaml")))
	f.until("deleted while broken", func(s *Set) bool { return noProblems(s) && value(s, "a") == "-" })
}

func TestAnInvalidObjectKeepsItsLastGoodVersion(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	bad := strings.Replace(configMap("a", "2"), "\ndata:", "\ndta:", 1)
	f.write("a.yaml", bad+"---\n"+configMap("b", "1"))
	set := f.until("first", problem("a.yaml:4: ConfigMap default/a: dta: no such field: did you mean data?"))
	if value(set, "a") != "-" || value(set, "b") != "1" || set.Problems[0].LastGood {
		t.Error(set.ConfigMaps, set.Problems)
	}
	f.write("a.yaml", configMap("a", "1")+"---\n"+configMap("b", "1"))
	f.until("good", has("a", "1"))
	f.write("a.yaml", bad+"---\n"+configMap("b", "2"))
	set = f.until("bad", problem("dta"))
	if value(set, "a") != "1" || value(set, "b") != "2" || !set.Problems[0].LastGood {
		t.Error(set.ConfigMaps, set.Problems)
	}
}

func TestTheSameObjectInTwoPlacesIsNotUsed(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	f.write("a.yaml", configMap("x", "1"))
	f.until("one", has("x", "1"))
	f.write("b.yaml", configMap("w", "1")+"---\n"+configMap("x", "1"))
	set := f.until("two", func(s *Set) bool { return value(s, "x") == "-" })
	if value(set, "w") != "1" || len(set.Problems) != 2 {
		t.Fatal(set.ConfigMaps, set.Problems)
	}
	a, b := filepath.Join(f.dir, "a.yaml"), filepath.Join(f.dir, "b.yaml")
	for i, want := range []string{a + ":1: ConfigMap default/x: is also at " + b + ":6", b + ":6: ConfigMap default/x: is also at " + a + ":1"} {
		if got := set.Problems[i].Error(); !strings.HasPrefix(got, want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	must(t, os.Remove(a))
	f.until("one again", func(s *Set) bool { return noProblems(s) && value(s, "x") == "1" })
}

func TestTheNewestSetWinsAndNothingWaitsForTheReceiver(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	for i := range 20 {
		f.write("a.yaml", configMap("a", fmt.Sprint(i)))
	}
	f.until("the last", has("a", "19"))
	f.stop()
	for range f.w.Updates() { // closed in the end
	}
}

func TestWithoutEventsTheRescanFindsChanges(t *testing.T) {
	f := follow(t, t.TempDir(), Options{Rescan: 5 * time.Millisecond, noEvents: true})
	f.write("a.yaml", configMap("a", "1"))
	f.until("added", has("a", "1"))
	for i := range 20 {
		f.write("a.yaml", configMap("a", fmt.Sprint(i%10))) // same size, within one tick of a clock
		f.until("changed", has("a", fmt.Sprint(i%10)))
	}
	must(t, os.Remove(filepath.Join(f.dir, "a.yaml")))
	f.until("removed", has("a", "-"))
}

func TestADirectoryThatIsNotThereIsAnErrorAtOnce(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"missing", "file"} {
		write(t, filepath.Join(dir, "file"), "")
		if _, err := Watch(context.Background(), Options{Dir: filepath.Join(dir, name)}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
