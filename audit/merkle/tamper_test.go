package merkle

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// found is true when Verify, with what was kept elsewhere, finds something.
func found(t *testing.T, dir string, o VerifyOptions) bool {
	t.Helper()
	return len(verify(t, dir, o).Findings) > 0
}

func refused(t *testing.T, dir string) bool {
	t.Helper()
	l, err := Open(dir, Options{Log: quiet, Retention: -1})
	if err == nil {
		closeLog(t, l)
		return false
	}
	var corrupt *CorruptError
	var rolled *RollbackError
	if !errors.As(err, &corrupt) && !errors.As(err, &rolled) {
		t.Fatalf("neither a CorruptError nor a RollbackError: %v", err)
	}
	return true
}

func rotated(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "log")
	l := open(t, dir, Options{SegmentBytes: 900, Retention: -1, Origin: "o.example"})
	add(t, l, 0, 4)
	if err := l.RotateKey(); err != nil {
		t.Fatal(err)
	}
	add(t, l, 4, 8)
	closeLog(t, l)
	return dir
}

func TestEachFlippedByteIsFound(t *testing.T) {
	t.Parallel()
	dir := rotated(t)
	o := VerifyOptions{Keys: pubKeys(t, dir), Checkpoints: [][]byte{read(t, filepath.Join(dir, checkpointName))}}
	sound(t, dir, o)
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, de := range names {
		path := filepath.Join(dir, de.Name())
		b := read(t, path)
		for i := range b {
			bit := byte(1) << (i % 8)
			b[i] ^= bit
			write(t, path, b)
			// The signing key is not looked at by those who verify.
			if de.Name() == keyName {
				if !refused(t, dir) {
					t.Errorf("%s byte %d: opened", de.Name(), i)
				}
			} else if !found(t, dir, o) {
				t.Errorf("%s byte %d: not found", de.Name(), i)
			} else if i%4 == 0 && !found(t, dir, VerifyOptions{}) {
				t.Errorf("%s byte %d: not found with the keys beside the log", de.Name(), i)
			}
			b[i] ^= bit
		}
		write(t, path, b)
	}
	sound(t, dir, o)
}

func TestAFlippedByteIsToldWhereItIs(t *testing.T) {
	dir := smallLog(t, 30)
	paths := segmentPaths(t, dir)
	b := read(t, paths[1])
	i := bytes.Index(b, []byte(`"n":1`))
	line := bytes.Count(b[:i], []byte("\n")) + 1
	b[i+4]++
	write(t, paths[1], b)
	r := verify(t, dir, VerifyOptions{})
	if len(r.Findings) != 1 || r.Findings[0].File != paths[1] || r.Findings[0].Line != line {
		t.Fatalf("want one finding in line %d: %+v", line, r.Findings)
	}
	finds(t, r, "it was edited")
	b[i+4]--
	write(t, paths[1], b)

	hashes := filepath.Join(dir, hashesName)
	h := read(t, hashes)
	h[storedSize(7)]++ // the leaf hash of entry 7
	write(t, hashes, h)
	r = verify(t, dir, VerifyOptions{})
	finds(t, r, "hashes:0 seq 7", "for which the checkpoint vouches")
}

func TestEachTruncationIsFound(t *testing.T) {
	t.Parallel()
	dir := rotated(t)
	o := VerifyOptions{Keys: pubKeys(t, dir), Checkpoints: [][]byte{read(t, filepath.Join(dir, checkpointName))}}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, de := range names {
		path := filepath.Join(dir, de.Name())
		b := read(t, path)
		for i := range b {
			write(t, path, b[:i])
			if de.Name() == keyName {
				if !refused(t, dir) {
					t.Errorf("%s cut at %d: opened", de.Name(), i)
				}
			} else if !found(t, dir, o) {
				t.Errorf("%s cut at %d: not found", de.Name(), i)
			}
		}
		os.Remove(path)
		if de.Name() == keyName {
			if !refused(t, dir) {
				t.Error("opened without a key")
			}
		} else if de.Name() != pubName && !found(t, dir, o) {
			t.Errorf("%s removed: not found", de.Name())
		}
		write(t, path, b)
	}
}

func TestEachTruncationOfTheLastSegmentIsRefusedWhenOpening(t *testing.T) {
	dir := smallLog(t, 12)
	paths := segmentPaths(t, dir)
	last := paths[len(paths)-1]
	b := read(t, last)
	for i := range b {
		write(t, last, b[:i])
		if !refused(t, dir) {
			t.Fatalf("cut at %d: opened", i)
		}
		if got := read(t, last); !bytes.Equal(got, b[:i]) {
			t.Fatalf("cut at %d: a file that was refused was changed", i)
		}
	}
	write(t, last, b)
	closeLog(t, open(t, dir, Options{}))
	sound(t, dir, VerifyOptions{})
}

func TestLinesThatWereMovedAreFound(t *testing.T) {
	dir := smallLog(t, 30)
	path := segmentPaths(t, dir)[1]
	whole := read(t, path)
	for name, edit := range map[string]func([][]byte) [][]byte{
		"removed": func(l [][]byte) [][]byte { return slices.Delete(l, 2, 3) },
		"doubled": func(l [][]byte) [][]byte { return slices.Insert(l, 3, l[2]) },
		"swapped": func(l [][]byte) [][]byte { l[2], l[3] = l[3], l[2]; return l },
		"replayed": func(l [][]byte) [][]byte {
			return slices.Insert(l, 3, bytes.SplitAfter(read(t, segmentPaths(t, dir)[0]), []byte("\n"))[1])
		},
		"empty line": func(l [][]byte) [][]byte { return slices.Insert(l, 3, []byte("\n")) },
	} {
		write(t, path, bytes.Join(edit(bytes.SplitAfter(whole, []byte("\n"))), nil))
		r := verify(t, dir, VerifyOptions{})
		finds(t, r, filepath.Base(path))
		err := Read(t.Context(), dir, Filter{}, func(Entry) error { return nil })
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.File != path {
			t.Errorf("%s: Read says %v", name, err)
		}
	}
}

func TestSegmentsThatWereMovedAreFound(t *testing.T) {
	pristine := smallLog(t, 40)
	for name, edit := range map[string]func(paths []string){
		"first removed":  func(p []string) { os.Remove(p[0]) },
		"middle removed": func(p []string) { os.Remove(p[1]) },
		"last removed":   func(p []string) { os.Remove(p[len(p)-1]) },
		"all removed": func(p []string) {
			for _, x := range p {
				os.Remove(x)
			}
		},
		"swapped": func(p []string) {
			a, b := read(t, p[1]), read(t, p[2])
			write(t, p[1], b)
			write(t, p[2], a)
		},
		"doubled":  func(p []string) { write(t, p[2], read(t, p[1])) },
		"emptied":  func(p []string) { write(t, p[1], nil) },
		"appended": func(p []string) { write(t, p[1], append(read(t, p[1]), read(t, p[2])...)) },
		"invented": func(p []string) { write(t, filepath.Join(filepath.Dir(p[0]), segmentFile(3)), read(t, p[1])) },
	} {
		dir := copyDir(t, pristine)
		edit(segmentPaths(t, dir))
		if !found(t, dir, VerifyOptions{}) {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestAnOlderCopyIsFoundByACheckpointOfLater(t *testing.T) {
	dir := smallLog(t, 10)
	old := copyDir(t, dir)
	keys := pubKeys(t, dir)
	l := open(t, dir, Options{})
	add(t, l, 10, 20)
	closeLog(t, l)
	kept := l.Checkpoint()
	sound(t, old, VerifyOptions{Keys: keys})
	finds(t, verify(t, old, VerifyOptions{Keys: keys, Checkpoints: [][]byte{kept}}), "vouches for 2", "there are 1")
	// Cut back without an older checkpoint: the log's own one says so.
	write(t, filepath.Join(old, checkpointName), kept)
	if !refused(t, old) {
		t.Fatal("opened")
	}
}

// rewrite is what somebody who has the key can do: a log with another entry.
func rewrite(t *testing.T, dir string, n, changed int) string {
	t.Helper()
	forged := filepath.Join(t.TempDir(), "forged")
	if err := os.Mkdir(forged, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{keyName, pubName} {
		write(t, filepath.Join(forged, name), read(t, filepath.Join(dir, name)))
	}
	l := open(t, forged, Options{SegmentBytes: 1200, Retention: -1})
	for i := range n {
		d := draft(i)
		if i == changed {
			d.Data = []byte(`{"n":-1}`)
		}
		if err := l.Append(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	return forged
}

func TestRewritingByTheKeyHolderIsFoundByACheckpointOfBefore(t *testing.T) {
	dir := smallLog(t, 20)
	keys, kept := pubKeys(t, dir), read(t, filepath.Join(dir, checkpointName))
	l := open(t, dir, Options{})
	add(t, l, 20, 30)
	closeLog(t, l)
	later := l.Checkpoint()
	sound(t, dir, VerifyOptions{Keys: keys, Checkpoints: [][]byte{kept, later, kept}})

	forged := rewrite(t, dir, 40, 5)
	sound(t, forged, VerifyOptions{Keys: keys}) // nothing shows by itself
	r := verify(t, forged, VerifyOptions{Keys: keys, Checkpoints: [][]byte{later, kept}})
	finds(t, r, "checkpoint 1 of those kept elsewhere", "are not those")
	finds(t, r, "checkpoint 2 of those kept elsewhere", "are not those")

	// With the kept checkpoint put beside it, it is refused.
	write(t, filepath.Join(forged, checkpointName), kept)
	if !refused(t, forged) {
		t.Fatal("opened")
	}
}

func TestAnotherKeyIsFound(t *testing.T) {
	dir, other := smallLog(t, 5), smallLog(t, 5)
	finds(t, verify(t, dir, VerifyOptions{Keys: pubKeys(t, other)}), "checkpoint:0", "not a trusted key")
	kept := read(t, filepath.Join(other, checkpointName))
	finds(t, verify(t, dir, VerifyOptions{Checkpoints: [][]byte{kept}}), "not a trusted key")
	finds(t, verify(t, dir, VerifyOptions{Keys: slices.Concat(pubKeys(t, dir), pubKeys(t, other)), Checkpoints: [][]byte{kept}}), "is of the log")
	if _, err := Verify(t.Context(), dir, VerifyOptions{Keys: []string{"nonsense"}}); err == nil {
		t.Fatal("a key that is none was taken")
	}
	write(t, filepath.Join(dir, keyName), read(t, filepath.Join(other, keyName)))
	if !refused(t, dir) {
		t.Fatal("opened with another key")
	}
}

func TestASignatureOfAWitnessDoesNotSpoilAKeptCheckpoint(t *testing.T) {
	dir := smallLog(t, 5)
	kept := read(t, filepath.Join(dir, checkpointName))
	skey, _, err := note.GenerateKey(rand.Reader, "witness.example")
	if err != nil {
		t.Fatal(err)
	}
	witness, _ := note.NewSigner(skey)
	v, _ := parseVkey(pubKeys(t, dir)[0])
	n, err := note.Open(kept, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(n, witness)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, dir, VerifyOptions{Keys: pubKeys(t, dir), Checkpoints: [][]byte{both}})
}

func TestVerifyOfADirectoryWithoutALogIsAnError(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/does/not/exist"} {
		if r, err := Verify(t.Context(), dir, VerifyOptions{}); err == nil {
			t.Errorf("%s: %+v", dir, r)
		}
	}
}

func TestManyFindingsAreBounded(t *testing.T) {
	dir := smallLog(t, 150)
	for _, p := range segmentPaths(t, dir) {
		write(t, p, bytes.ReplaceAll(read(t, p), []byte("request"), []byte("Request")))
	}
	r := verify(t, dir, VerifyOptions{})
	if len(r.Findings) > maxFindings {
		t.Fatal(len(r.Findings))
	}
	finds(t, r, "more findings are not shown")
}

func TestReadAndVerifyLeaveEverythingAsItIs(t *testing.T) {
	dir := smallLog(t, 10)
	look := func() map[string]string {
		out := map[string]string{}
		des, _ := os.ReadDir(dir)
		for _, de := range des {
			out[de.Name()] = string(read(t, filepath.Join(dir, de.Name())))
		}
		return out
	}
	before := look()
	sound(t, dir, VerifyOptions{})
	numbers(t, dir)
	if !reflect.DeepEqual(before, look()) {
		t.Fatal("a file was changed")
	}
}
