package source

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mount lays a directory out as the kubelet mounts a ConfigMap, and swaps it as
// the kubelet does.
func mount(t *testing.T, dir, version string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		write(t, filepath.Join(dir, version, name), text)
		link := filepath.Join(dir, name)
		if _, err := os.Lstat(link); err != nil {
			must(t, os.Symlink(filepath.Join("..data", name), link))
		}
	}
	must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
}

func TestAMountedConfigMapIsFollowedAcrossSwaps(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "..v1", map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")})
	f := follow(t, dir, Options{})
	if value(f.last, "a") != "1" || value(f.last, "b") != "1" || !noProblems(f.last) {
		t.Fatal(f.last.ConfigMaps, f.last.Problems)
	}
	b := f.last.ConfigMaps[nn("b")]
	always := func(s *Set) {
		if value(s, "a") == "-" || s.ConfigMaps[nn("b")] != b {
			t.Error("something vanished or changed in a swap")
		}
	}
	for _, v := range []string{"2", "3", "4"} {
		mount(t, dir, "..v"+v, map[string]string{"a.yaml": configMap("a", v), "b.yaml": configMap("b", "1")})
		f.until("swapped", has("a", v), always)
	}
	must(t, os.RemoveAll(filepath.Join(dir, "..v1")))
}

func TestSymbolicLinksAreFollowedOnceAndWithoutLoops(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "o.yaml"), configMap("outside", "1"))
	write(t, filepath.Join(outside, "target.txt"), configMap("linked", "1"))
	write(t, filepath.Join(dir, "real", "a.yaml"), configMap("a", "1"))
	for link, target := range map[string]string{
		"real/loop": "..", "self": "self", "again": "real", "z.yaml": "real/a.yaml", "o": outside,
		"l.yaml": filepath.Join(outside, "target.txt"), "dangling": "nowhere", "dangling.yaml": "nowhere",
	} {
		must(t, os.Symlink(target, filepath.Join(dir, link)))
	}
	f := follow(t, dir, Options{})
	set := f.last
	if value(set, "a") != "1" || value(set, "outside") != "1" || value(set, "linked") != "1" || len(set.ConfigMaps) != 3 {
		t.Error(set.ConfigMaps)
	}
	if len(set.Problems) != 1 || !strings.Contains(set.Problems[0].Error(), "dangling.yaml: no such file") {
		t.Error(set.Problems)
	}
	write(t, filepath.Join(outside, "o.yaml"), configMap("outside", "2"))
	f.until("a linked directory is watched", has("outside", "2"))
}

func TestTheRootMayBeReplaced(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "conf")
	write(t, filepath.Join(dir, "a.yaml"), configMap("a", "1"))
	write(t, filepath.Join(dir, "sub", "b.yaml"), configMap("b", "1"))
	f := follow(t, dir, Options{Vanish: 2 * time.Second})
	stays := func(s *Set) {
		if value(s, "a") == "-" || value(s, "b") == "-" {
			t.Error("something vanished while the root was replaced")
		}
	}
	for i, v := range []string{"2", "3"} {
		next := filepath.Join(parent, "next")
		write(t, filepath.Join(next, "a.yaml"), configMap("a", v))
		write(t, filepath.Join(next, "sub", "b.yaml"), configMap("b", v))
		must(t, os.Rename(dir, filepath.Join(parent, "old"+string(rune('0'+i)))))
		must(t, os.Rename(next, dir))
		f.until("replaced", func(s *Set) bool { return value(s, "a") == v && value(s, "b") == v }, stays)
		f.write("sub/b.yaml", configMap("b", v+"x"))
		f.until("the new root is watched", has("b", v+"x"), stays)
		write(t, filepath.Join(parent, "old"+string(rune('0'+i)), "a.yaml"), configMap("a", "wrong"))
	}
	f.write("c.yaml", configMap("c", "1"))
	if set := f.until("on", has("c", "1")); value(set, "a") != "3" {
		t.Error("the old root is still followed")
	}
}

func TestARootThatGoesAwayTakesAllWithItAndMayComeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "conf")
	write(t, filepath.Join(dir, "a.yaml"), configMap("a", "1"))
	f := follow(t, dir, Options{})
	must(t, os.RemoveAll(dir))
	f.until("gone and told", func(s *Set) bool { return value(s, "a") == "-" && problem(dir+": no such file")(s) })
	write(t, filepath.Join(dir, "a.yaml"), configMap("a", "2"))
	f.until("back", func(s *Set) bool { return value(s, "a") == "2" && noProblems(s) })
}

func TestTheRootMayBeASymbolicLinkThatIsSwapped(t *testing.T) {
	parent := t.TempDir()
	for _, v := range []string{"1", "2"} {
		write(t, filepath.Join(parent, "v"+v, "a.yaml"), configMap("a", v))
	}
	dir := filepath.Join(parent, "conf")
	must(t, os.Symlink("v1", dir))
	f := follow(t, dir, Options{})
	must(t, os.Symlink("v2", dir+".tmp"))
	must(t, os.Rename(dir+".tmp", dir))
	f.until("swapped", has("a", "2"), func(s *Set) {
		if value(s, "a") == "-" {
			t.Error("vanished in the swap")
		}
	})
}

func TestUnlinkAndRecreateIsAChangeAndNotADeletion(t *testing.T) {
	f := follow(t, t.TempDir(), Options{Vanish: 2 * time.Second})
	f.write("a.yaml", configMap("a", "1"))
	f.until("there", has("a", "1"))
	for _, v := range []string{"2", "3", "4"} {
		must(t, os.Remove(filepath.Join(f.dir, "a.yaml")))
		f.write("marker.yaml", configMap("marker", v))
		f.until("seen while it is gone", has("marker", v), func(s *Set) {
			if value(s, "a") == "-" {
				t.Error("believed gone at the first look")
			}
		})
		f.write("a.yaml", configMap("a", v))
		f.until("changed", has("a", v))
	}
}

func TestAFileThatIsBeingWrittenIsNotReadHalf(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	f.write("a.yaml", configMap("a", "1")+"---\n"+configMap("b", "1"))
	f.until("there", has("b", "1"))

	w, err := os.OpenFile(filepath.Join(f.dir, "a.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	defer w.Close()
	_, err = w.WriteString(configMap("a", "2")) // valid as it is, but half
	must(t, err)
	whole := func(s *Set) {
		if value(s, "a") == "2" && value(s, "b") != "2" || value(s, "b") == "-" {
			t.Error("half a file was read")
		}
	}
	f.write("marker.yaml", configMap("marker", "1"))
	f.until("seen while it is written", has("marker", "1"), whole)
	_, err = w.WriteString("---\n" + configMap("b", "2"))
	must(t, err)
	must(t, w.Close())
	f.until("written", has("b", "2"), whole)
}

func TestAFileThatIsHeldOpenIsReadInTheEnd(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	w, err := os.Create(filepath.Join(f.dir, "a.yaml"))
	must(t, err)
	defer w.Close()
	_, err = w.WriteString(configMap("a", "1"))
	must(t, err)
	f.until("read", has("a", "1"))
}

func TestOddFilesAreProblemsAndNothingMore(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), configMap("a", "1"))
	write(t, filepath.Join(dir, "large.yaml"), configMap("large", strings.Repeat("x", maxFileSize)))
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "dir.yaml"), 0o755))
	set := Load(dir, filepath.Join(dir, "missing"))
	if value(set, "a") != "1" {
		t.Error(set.ConfigMaps)
	}
	for _, want := range []string{"large.yaml: is larger than 4 MiB", "pipe.yaml: is not a regular file", "missing: no such file or directory"} {
		if !problem(want)(set) {
			t.Errorf("no problem %q in %v", want, set.Problems)
		}
	}
	if len(set.Problems) != 3 {
		t.Error(set.Problems)
	}
}

func TestLoadTakesFilesAndDirectoriesAndEachOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), configMap("a", "1"))
	write(t, filepath.Join(dir, "named.txt"), configMap("b", "1"))
	set := Load(filepath.Join(dir, "a.yaml"), dir+"/", filepath.Join(dir, "named.txt"), dir)
	if value(set, "a") != "1" || value(set, "b") != "1" || !noProblems(set) {
		t.Error(set.ConfigMaps, set.Problems)
	}
}
