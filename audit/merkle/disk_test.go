package merkle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestADiskThatFailsOnceLosesNothingAcknowledged fails each operation on the
// disk in turn, the n-th of them, and looks at what is there then and later.
func TestADiskThatFailsOnceLosesNothingAcknowledged(t *testing.T) {
	for _, failure := range []error{errFull, errDisk} {
		for n := 1; ; n++ {
			dir := filepath.Join(t.TempDir(), "log")
			d := &disk{}
			l := open(t, dir, Options{SegmentBytes: 600, Retention: -1, open: d.open})
			add(t, l, 0, 3)
			count, failed := 0, ""
			d.set(func(op, name string) error {
				if strings.HasPrefix(name, checkpointName) {
					return nil // of the checkpoint, below
				}
				if count++; count == n {
					failed = op + " " + name
					return failure
				}
				return nil
			})
			var want []int
			for i := 3; i < 11; i++ {
				if i == 10 {
					d.set(nil)
				}
				// Each shorter than the one before, so that a rest of that would show.
				next := draft(i)
				next.Data = fmt.Appendf(nil, `{"n":%d,"pad":%q}`, i, strings.Repeat("x", 40*(11-i)))
				err := l.Append(context.Background(), next)
				if err == nil {
					want = append(want, i)
				} else if !errors.Is(err, failure) || l.Err() == nil {
					t.Fatalf("%s: %v, Err %v", failed, err, l.Err())
				}
			}
			want = append(upTo(3), want...)
			if err := l.Err(); err != nil {
				t.Fatalf("%s: it does not recover: %v", failed, err)
			}
			crashed := copyDir(t, dir) // as a killed process would leave it
			closeLog(t, l)
			if failed == "" {
				enough(t, n)
				break
			}
			if got := numbers(t, dir); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: there are %v, want %v", failed, got, want)
			}
			sound(t, dir, VerifyOptions{})
			closeLog(t, open(t, crashed, Options{}))
			if got := numbers(t, crashed); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s, killed: there are %v, want %v", failed, got, want)
			}
			sound(t, crashed, VerifyOptions{})
		}
	}
}

func enough(t *testing.T, n int) {
	t.Helper()
	if n < 15 {
		t.Fatalf("only %d operations were failed", n-1)
	}
}

// TestADiskThatStaysFullLosesNothingAcknowledged fails everything from the n-th
// operation on, then the disk is well again, or the process is killed.
func TestADiskThatStaysFullLosesNothingAcknowledged(t *testing.T) {
	for _, ops := range []string{"write", "write sync", "write sync truncate", "sync", "sync truncate", "open", "truncate write open sync"} {
		for n := 1; n < 25; n++ {
			dir := filepath.Join(t.TempDir(), "log")
			d := &disk{}
			l := open(t, dir, Options{SegmentBytes: 600, Retention: -1, open: d.open})
			add(t, l, 0, 3)
			count := 0
			d.set(func(op, name string) error {
				if strings.HasPrefix(name, checkpointName) {
					return nil
				}
				if count++; count >= n && strings.Contains(ops, op) {
					return errFull
				}
				return nil
			})
			acked := map[int]bool{0: true, 1: true, 2: true}
			for i := 3; i < 10; i++ {
				if err := l.Append(context.Background(), draft(i)); err == nil {
					acked[i] = true
				} else if !errors.Is(err, unix.ENOSPC) {
					t.Fatal(err)
				}
			}
			crashed := copyDir(t, dir)
			d.set(nil)
			for i := 10; i < 13; i++ {
				if err := l.Append(context.Background(), draft(i)); err != nil {
					t.Fatalf("%s from %d on: it does not recover: %v", ops, n, err)
				}
				acked[i] = true
			}
			closeLog(t, l)
			exactly(t, dir, acked, true)
			for i := 10; i < 13; i++ {
				delete(acked, i)
			}
			// What was written and not cut may be there, whoever it was not told.
			closeLog(t, open(t, crashed, Options{}))
			exactly(t, crashed, acked, false)
		}
	}
}

func exactly(t *testing.T, dir string, acked map[int]bool, only bool) {
	t.Helper()
	there := map[int]bool{}
	for _, n := range numbers(t, dir) {
		if there[n] {
			t.Fatalf("%d is there twice", n)
		}
		there[n] = true
		if only && !acked[n] {
			t.Fatalf("%d is there and was refused", n)
		}
	}
	for n := range acked {
		if !there[n] {
			t.Fatalf("%d was acknowledged and is missing", n)
		}
	}
	sound(t, dir, VerifyOptions{})
}

func TestACheckpointThatCannotBeWrittenIsToldAndComesLater(t *testing.T) {
	for _, op := range []string{"open", "write", "sync"} {
		dir := t.TempDir()
		d := &disk{}
		l := open(t, dir, Options{open: d.open})
		add(t, l, 0, 3)
		if err := l.sign(); err != nil {
			t.Fatal(err)
		}
		old := l.Checkpoint()
		d.set(func(o, name string) error {
			if o == op && strings.HasPrefix(name, checkpointName) {
				return errFull
			}
			return nil
		})
		add(t, l, 3, 6) // entries are kept all the same
		if err := l.sign(); !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		if err := l.Err(); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("Err: %v", err)
		}
		if got := read(t, filepath.Join(dir, checkpointName)); string(got) != string(old) || string(l.Checkpoint()) != string(old) {
			t.Fatal("the checkpoint was harmed")
		}
		if _, err := os.Stat(filepath.Join(dir, checkpointName+".tmp")); err == nil {
			t.Fatal("a half of a checkpoint takes room")
		}
		d.set(nil)
		closeLog(t, l)
		if r := sound(t, dir, VerifyOptions{}); r.Unsigned != 0 {
			t.Fatalf("%+v", r)
		}
	}
}

func TestOpeningOnAFullDiskIsAnErrorAndHarmsNothing(t *testing.T) {
	for n := 1; n < 40; n++ {
		dir := filepath.Join(t.TempDir(), "log")
		d := &disk{}
		count := 0
		d.set(func(string, string) error {
			if count++; count >= n {
				return errFull
			}
			return nil
		})
		if l, err := Open(dir, Options{Log: quiet, open: d.open}); err == nil {
			if count >= n {
				t.Fatalf("opened although operation %d failed", n)
			}
			d.set(nil)
			closeLog(t, l)
		} else if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		d.set(nil)
		l := open(t, dir, Options{})
		add(t, l, 0, 2)
		closeLog(t, l)
		sound(t, dir, VerifyOptions{})
	}
}

func TestALogWithEntriesIsOpenedOnAFullDiskAndSignedOnceThereIsRoom(t *testing.T) {
	killed := filepath.Join(t.TempDir(), "log")
	d := &disk{}
	l := open(t, killed, Options{open: d.open})
	full := func(_, name string) error {
		if strings.HasPrefix(name, checkpointName) {
			return errFull
		}
		return nil
	}
	d.set(full)
	add(t, l, 0, 5)
	dir := copyDir(t, killed)
	l = open(t, dir, Options{Log: quiet, open: d.open})
	if l.Err() == nil {
		t.Fatal("nothing is wrong with a log that cannot be signed")
	}
	if r := l.From(0); l.Size() != 6 {
		t.Fatal(l.Size())
	} else if got, err := r.Next(100, 1<<20); err != nil || len(got) != 6 {
		t.Fatalf("%d entries can be read, %v", len(got), err)
	}
	d.set(nil)
	for late := time.After(10 * time.Second); l.Err() != nil; {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-late:
			t.Fatal("it is not signed although there is room")
		}
	}
	add(t, l, 5, 6)
	closeLog(t, l)
	if r := sound(t, dir, VerifyOptions{}); r.Unsigned != 0 {
		t.Fatalf("%+v", r)
	}
}

func TestWhatACrashLeavesAtTheEndIsCut(t *testing.T) {
	pristine := smallLog(t, 12)
	for name, tail := range map[string]string{
		"part of a line": `{"v":1,"seq":99,"ti`,
		"zeros":          strings.Repeat("\x00", 5000),
		"zeros and more": strings.Repeat("\x00", 300) + "\n" + `{"v":1,"seq":99}` + "\n",
	} {
		dir := copyDir(t, pristine)
		paths := segmentPaths(t, dir)
		last := paths[len(paths)-1]
		write(t, last, append(read(t, last), tail...))
		l := open(t, dir, Options{})
		if len(l.Recovered()) == 0 {
			t.Errorf("%s: not told", name)
		}
		add(t, l, 12, 14)
		closeLog(t, l)
		if got := numbers(t, dir); !reflect.DeepEqual(got, upTo(14)) {
			t.Errorf("%s: %v", name, got)
		}
		sound(t, dir, VerifyOptions{})

		// A segment that was begun.
		dir = copyDir(t, pristine)
		l = open(t, dir, Options{})
		size := l.Size()
		closeLog(t, l)
		write(t, filepath.Join(dir, segmentFile(size)), []byte(tail))
		l = open(t, dir, Options{})
		if len(l.Recovered()) == 0 {
			t.Errorf("%s: not told", name)
		}
		add(t, l, 12, 14)
		closeLog(t, l)
		if got := numbers(t, dir); !reflect.DeepEqual(got, upTo(14)) {
			t.Errorf("%s: %v", name, got)
		}
		sound(t, dir, VerifyOptions{})
	}
}

func TestALineAfterTheCheckpointThatIsNoEntryIsNotCutInSilence(t *testing.T) {
	dir := smallLog(t, 12)
	paths := segmentPaths(t, dir)
	last := paths[len(paths)-1]
	write(t, last, append(read(t, last), "not an entry\n"...))
	if !refused(t, dir) {
		t.Fatal("opened")
	}
	finds(t, verify(t, dir, VerifyOptions{}), filepath.Base(last), "not an entry")
}

func TestHashesAreDerivedAgain(t *testing.T) {
	pristine := smallLog(t, 40)
	whole := read(t, filepath.Join(pristine, hashesName))
	for name, b := range map[string][]byte{
		"missing": nil, "empty": {}, "short": whole[:len(whole)/2], "a part": whole[:100],
		"long": append(append([]byte{}, whole...), 1, 2, 3), "zeros": make([]byte, len(whole)),
	} {
		dir := copyDir(t, pristine)
		path := filepath.Join(dir, hashesName)
		if write(t, path, b); name == "missing" {
			os.Remove(path)
		}
		finds(t, verify(t, dir, VerifyOptions{}), hashesName)
		l := open(t, dir, Options{Retention: -1})
		closeLog(t, l)
		if string(read(t, path)) != string(whole) {
			t.Errorf("%s: the hashes are others", name)
		}
		if name != "long" && len(l.Recovered()) != 1 {
			t.Errorf("%s: told %q", name, l.Recovered())
		}
		sound(t, dir, VerifyOptions{})
	}
}

func TestHashesThatAreMissingDoNotHideAnEdit(t *testing.T) {
	dir := smallLog(t, 40)
	os.Remove(filepath.Join(dir, hashesName))
	p := segmentPaths(t, dir)[0]
	write(t, p, []byte(strings.Replace(string(read(t, p)), `{"n":1}`, `{"n":7}`, 1)))
	if !refused(t, dir) {
		t.Fatal("opened")
	}
	if !found(t, dir, VerifyOptions{}) {
		t.Fatal("not found")
	}
}

func ExampleCorruptError() {
	fmt.Println(&CorruptError{File: "log/hashes", Reason: "it is short"})
	// Output: log/hashes: it is short: the file was edited or the disk is failing; restore it from a copy, or move log away: the next start begins a new log
}
