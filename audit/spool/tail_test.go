package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var discard = slog.New(slog.DiscardHandler)

const row1 = `{"typ":"DownstreamEnd","ep":"e","sid":"%s","conn":1,"t":"2026-11-23T22:00:00.123456Z","code":200,"d":3,"us":2500,"p":"/a?k=v"}`

func rowOf(key string) string { return fmt.Sprintf(row1, key) }

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func options(dir string) Options {
	return Options{Dir: dir, Log: discard, tick: time.Hour}
}

func openAt(t testing.TB, o Options, position string) *Tail {
	t.Helper()
	tail, err := Open(o, position)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tail.Close() })
	return tail
}

// drain reads all there is, as "KEY" or "!" for a problem.
func drain(t testing.TB, tail *Tail) (all []Record, words []string) {
	t.Helper()
	for {
		records, more, err := tail.Read(3)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, records...)
		if !more {
			break
		}
	}
	for _, r := range all {
		words = append(words, wordOf(r))
	}
	return all, words
}

func wordOf(r Record) string {
	if r.Row == nil {
		return "!"
	}
	return r.Row.Key
}

func wantWords(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
}

func lines(keys ...string) string {
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(rowOf(k) + "\n")
	}
	return b.String()
}

func TestFromEachPositionTheSameFollows(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "access.jsonl.2", lines("c", "d")+rowOf("torn")[:30])
	write(t, dir, "access.jsonl.10", "") // newer than 2, and empty
	write(t, dir, "access.jsonl.1", lines("a")+"\n"+rowOf("x")[:50]+lines("b"))
	write(t, dir, "access.jsonl", "\x00\x00"+lines("e")+rowOf("f")+lines("g"))
	all, words := drain(t, openAt(t, options(dir), ""))
	wantWords(t, words, "a", "!", "b", "c", "d", "!", "!", "e", "f", "g")
	for i := len(all) - 1; i >= 0; i-- { // what is before the position is deleted
		rest, words := drain(t, openAt(t, options(copyOf(t, dir)), ""))
		if len(rest) != len(all) {
			t.Fatalf("a copy reads %q", words)
		}
		_, words = drain(t, openAt(t, options(dir), all[i].Position))
		if i == len(all)-1 {
			wantWords(t, words)
			break // access.jsonl alone is left
		}
	}
}

// copyOf a spool: other files, with other ids.
func copyOf(t *testing.T, dir string) string {
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, 0o700); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestWhatIsReadAgainFollowsThePosition(t *testing.T) {
	build := func() string {
		dir := t.TempDir()
		write(t, dir, "access.jsonl.1", lines("a")+"\n"+rowOf("x")[:50]+lines("b"))
		write(t, dir, "access.jsonl", "junk"+lines("e")+rowOf("f")+lines("g"))
		return dir
	}
	want := []string{"a", "!", "b", "!", "e", "f", "g"}
	for i := range want {
		dir := build()
		tail := openAt(t, options(dir), "")
		records, _, err := tail.Read(i + 1)
		if err != nil || len(records) != i+1 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		if err := tail.Close(); err != nil {
			t.Fatal(err)
		}
		_, words := drain(t, openAt(t, options(dir), records[i].Position))
		wantWords(t, words, want[i+1:]...)
	}
}

func TestAFileIsDeletedOnceALaterOneIsCommitted(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "access.jsonl.1", lines("a", "b"))
	write(t, dir, "access.jsonl", lines("c"))
	tail := openAt(t, options(dir), "")
	all, _ := drain(t, tail)
	for i, r := range all {
		if err := tail.Committed(r.Position); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(filepath.Join(dir, "access.jsonl.1"))
		if gone := errors.Is(err, os.ErrNotExist); gone != (i == 2) {
			t.Errorf("after record %d the file is gone: %v", i, gone)
		}
	}
	if err := tail.Committed("12-34:5"); err == nil {
		t.Error("a position that is nowhere was committed")
	}
	write(t, dir, "access.jsonl", lines("d"))
	if n := tail.Bytes(); n != int64(len(lines("d"))) {
		t.Errorf("%d bytes unread", n)
	}
	_, words := drain(t, tail)
	wantWords(t, words, "d")
}

func TestAPositionThatIsGoneIsSaidAndTheOldestComesFirst(t *testing.T) {
	for _, position := range []string{"1f-2e:33", "nonsense", "~:x"} {
		dir := t.TempDir()
		write(t, dir, "access.jsonl.7", lines("a"))
		write(t, dir, "access.jsonl", lines("b"))
		all, words := drain(t, openAt(t, options(dir), position))
		wantWords(t, words, "!", "a", "b")
		if !strings.Contains(all[0].Raw, position) || !strings.HasSuffix(all[0].Position, ":0") {
			t.Errorf("%+v", all[0])
		}
	}
}

func TestACutFileBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "access.jsonl", lines("a", "b"))
	tail := openAt(t, options(dir), "")
	before, _ := drain(t, tail)
	if err := os.Truncate(filepath.Join(dir, "access.jsonl"), 0); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "access.jsonl", lines("c"))
	all, words := drain(t, tail)
	wantWords(t, words, "!", "c")
	if id := func(r Record) string { s, _, _ := strings.Cut(r.Position, ":"); return s }; id(all[1]) == id(before[1]) {
		t.Errorf("the positions %s and %s are of one file", before[1].Position, all[1].Position)
	}
	_ = tail.Close()
	write(t, dir, "access.jsonl", lines("d"))
	_, words = drain(t, openAt(t, options(dir), all[1].Position))
	wantWords(t, words, "d")
}

func TestNoLineIsTooLongForTheNext(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "access.jsonl", lines("a")+strings.Repeat("x", 5*maxLine)+lines("b")+strings.Repeat("y", 3*maxLine+17)+"\n"+lines("c"))
	_, words := drain(t, openAt(t, options(dir), ""))
	words = slices.Compact(words)
	wantWords(t, words, "a", "!", "b", "!", "c")
}

func TestWhatIsNotOursIsRefused(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"a link": func(dir string) error {
			return os.Symlink("/etc/passwd", filepath.Join(dir, "access.jsonl"))
		},
		"an old link": func(dir string) error {
			return os.Symlink("/etc/passwd", filepath.Join(dir, "access.jsonl.3"))
		},
		"a directory": func(dir string) error { return os.Mkdir(filepath.Join(dir, "access.jsonl"), 0o700) },
	} {
		dir := t.TempDir()
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if tail, err := Open(options(dir), ""); err == nil {
			_ = tail.Close()
			t.Errorf("%s was opened", name)
		}
	}
	dir := t.TempDir()
	tail := openAt(t, options(dir), "")
	link := filepath.Join(dir, "link")
	if err := errors.Join(os.Symlink("/etc/passwd", link), os.Rename(link, filepath.Join(dir, "access.jsonl"))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tail.Read(1); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("read a link that came later: %v", err)
	}
}

func TestAFileOfSomebodyElseIsRefused(t *testing.T) {
	dir, name := "/etc", "passwd"
	if os.Geteuid() == 0 { // whose that is
		dir, name = t.TempDir(), "access.jsonl"
		write(t, dir, name, lines("a"))
		if err := os.Chown(filepath.Join(dir, name), 12345, -1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openFile(dir, name); err == nil || !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("opened: %v", err)
	}
}

func TestOnlyTheOwnerMayRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "access.jsonl.1", lines("a"))
	if err := os.Chmod(filepath.Join(dir, "access.jsonl.1"), 0o644); err != nil {
		t.Fatal(err)
	}
	openAt(t, options(dir), "")
	for name, want := range map[string]os.FileMode{"": 0o700, "access.jsonl": 0o600, "access.jsonl.1": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestAFileSystemWithoutBirthTimesHasIdsByContent(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "short")
	write(t, dir, "b", lines("b"))
	write(t, dir, "c", lines("c"))
	id := func(name string, final bool) string {
		f, err := openFile(dir, name)
		if err == nil {
			err = f.identifyByContent(final)
		}
		if err != nil {
			t.Fatal(err)
		}
		return f.id
	}
	if id("a", false) != "" || id("a", true) == "" || id("b", false) == "" || id("b", false) != id("b", true) || id("b", false) == id("c", false) {
		t.Errorf("%q %q %q %q", id("a", false), id("a", true), id("b", false), id("c", false))
	}
}

func TestALargeFileIsSetAsideAndEnvoyIsAskedUntilItWrites(t *testing.T) {
	for _, noBell := range []bool{false, true} {
		dir := t.TempDir()
		asked := make(chan int)
		n := 0
		o := options(dir)
		o.tick, o.RotateAt, o.noBell = time.Millisecond, 200, noBell
		o.Reopen = func(ctx context.Context) error {
			n++
			select {
			case asked <- n:
			case <-ctx.Done():
			}
			if n == 1 {
				return errors.New("Envoy does not run")
			}
			return nil
		}
		tail := openAt(t, o, "")
		old, err := os.OpenFile(filepath.Join(dir, "access.jsonl"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		fmt.Fprint(old, lines("a", "b"))
		for range 5 { // it failed, and then nothing was written
			<-asked
		}
		fmt.Fprint(old, lines("c")) // Envoy has not opened the new one
		write(t, dir, "access.jsonl", lines("d"))
		var words []string
		for len(words) < 4 {
			select {
			case <-tail.Changed():
			case <-asked:
			}
			_, more := drain(t, tail)
			words = append(words, more...)
		}
		wantWords(t, words, "a", "b", "c", "d")
		if err := tail.Close(); err != nil {
			t.Error(err)
		}
		for range tail.Changed() {
		}
	}
}
