package merkle

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func FuzzALineIsAnEntryInOneFormOnly(f *testing.F) {
	d, _ := normal(Draft{Time: time.Unix(1, 0), Kind: "a", Data: []byte(`{"a": [1, "x"]}`), Cursors: map[string]string{"b": `"\`, "a": ""}})
	f.Add(bytes.TrimSuffix(appendLine(nil, 7, d), []byte("\n")))
	f.Add([]byte(`{"v":1,"seq":0,"time":"0000-01-01T00:00:00.000000Z","kind":"a","data":null}`))
	f.Add([]byte(`{"v":1,"seq":0,"time":"2026-11-24T18:30:00.000042Z","kind":"request","data":null}`))
	f.Add([]byte(`{"v":1,"seq":00,"time":"2026-11-24T18:30:00,000042Z","kind":"","data":01,"cursors":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseLine(b)
		if err != nil {
			return
		}
		e := p.entry()
		again := appendLine(nil, e.Seq, Draft{e.Time, e.Kind, e.Data, e.Cursors})
		if string(again) != string(b)+"\n" {
			t.Fatalf("%q is written as %q", b, again)
		}
		// Other readers agree.
		var j Entry
		if err := json.Unmarshal(b, &j); err != nil || j.Seq != e.Seq || !j.Time.Equal(e.Time) || j.Kind != e.Kind || string(j.Data) != string(e.Data) {
			t.Fatalf("%q is %+v for encoding/json, %+v here: %v", b, j, e, err)
		}
		if _, err := normal(Draft{e.Time, e.Kind, e.Data, e.Cursors}); err != nil {
			t.Fatalf("%q could not have been appended: %v", b, err)
		}
	})
}

func FuzzANoteIsACheckpointInOneFormOnly(f *testing.F) {
	dir := f.TempDir()
	l := open(f, dir, Options{})
	add(f, l, 0, 3)
	closeLog(f, l)
	good, keys := l.Checkpoint(), pubKeys(f, dir)
	f.Add(good)
	f.Add(bytes.ReplaceAll(good, []byte("\n4\n"), []byte("\n04\n")))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Whoever has no key makes no other.
		if _, err := openHead(b, keys); err == nil && !bytes.Equal(b, good) {
			t.Fatalf("%q is taken for a checkpoint", b)
		}
		if h, err := readHead(b); err == nil && !bytes.HasPrefix(b, []byte(h.text())) {
			t.Fatalf("%q is read as %q", b, h.text())
		}
	})
}

func FuzzSplittingCheckpointsLosesNothing(f *testing.F) {
	f.Add([]byte("o\n1\nx\n\n— o y\no\n2\nx\n\n— o y\n— p z\n\n\nrest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		joined := bytes.Join(SplitCheckpoints(b), nil)
		if !bytes.HasPrefix(b, joined) || len(bytes.TrimSpace(b[len(joined):])) > 0 {
			t.Fatalf("%q became %q", b, joined)
		}
	})
}

func FuzzVerifyFindsEachChange(f *testing.F) {
	pristine := filepath.Join(f.TempDir(), "log")
	l := open(f, pristine, Options{SegmentBytes: 600, Retention: -1})
	add(f, l, 0, 6)
	if err := l.RotateKey(); err != nil {
		f.Fatal(err)
	}
	add(f, l, 6, 9)
	closeLog(f, l)
	keys, kept := pubKeys(f, pristine), l.Checkpoint()
	names, err := os.ReadDir(pristine)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(3), uint16(10), uint16(1), []byte("x"))
	f.Add(uint8(5), uint16(0), uint16(500), []byte{})
	f.Fuzz(func(t *testing.T, file uint8, at, length uint16, put []byte) {
		name := names[int(file)%len(names)].Name()
		if name == keyName {
			return
		}
		b := read(t, filepath.Join(pristine, name))
		i := int(at) % (len(b) + 1)
		j := min(i+int(length), len(b))
		changed := bytes.Join([][]byte{b[:i], put, b[j:]}, nil)
		if bytes.Equal(changed, b) {
			return
		}
		dir := copyDir(t, pristine)
		write(t, filepath.Join(dir, name), changed)
		r := verify(t, dir, VerifyOptions{Keys: keys, Checkpoints: [][]byte{kept}})
		if len(r.Findings) > 0 {
			return
		}
		// More at the end is a log that goes on, or a write under way; and a key
		// that nothing was signed with is in nobody's way.
		if r.Size < headSize(t, kept) || !bytes.HasPrefix(changed, b) {
			t.Fatalf("%s was changed at %d to %d and is sound: %+v", name, i, j, r)
		}
		l, err := Open(dir, Options{Log: quiet, Retention: -1})
		if err == nil {
			closeLog(t, l)
		}
	})
}

// FuzzAProofProvesWhatItWasMadeForOnly: whatever is done to a proof, what it still
// proves is an entry of the log, in its place.
func FuzzAProofProvesWhatItWasMadeForOnly(f *testing.F) {
	dir := f.TempDir()
	l := open(f, dir, Options{})
	add(f, l, 0, 5)
	old := l.Checkpoint()
	add(f, l, 5, 11)
	closeLog(f, l)
	keys := pubKeys(f, dir)
	var lines []string
	for seq := range uint64(12) {
		p, err := Prove(dir, seq)
		if err != nil {
			f.Fatal(err)
		}
		lines = append(lines, p.Entry)
		b, _ := json.Marshal(p)
		f.Add(b, old)
	}
	for size := range uint64(13) {
		p, err := ProveConsistency(dir, size)
		if err != nil {
			f.Fatal(err)
		}
		b, _ := json.Marshal(p)
		f.Add(b, old)
	}
	f.Fuzz(func(t *testing.T, b, older []byte) {
		var p Proof
		if json.Unmarshal(b, &p) == nil && p.Check(keys) == nil {
			if p.Seq >= uint64(len(lines)) || lines[p.Seq] != p.Entry {
				t.Fatalf("entry %d is proven to be %q", p.Seq, p.Entry)
			}
		}
		var c ConsistencyProof
		if json.Unmarshal(b, &c) == nil && c.Check(older, keys) == nil {
			if !bytes.Equal(older, old) && headSize(t, older) != uint64(len(lines)) || c.OldSize > c.Size {
				t.Fatalf("consistent with %q: %+v", older, c)
			}
		}
	})
}

// FuzzAKeyIsReadInOneFormOnly: verifier keys, lists of them and signing keys; and
// no error quotes a signing key.
func FuzzAKeyIsReadInOneFormOnly(f *testing.F) {
	k, secret, err := newKey("example.test/log")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(k.vkey + "\n"))
	f.Add([]byte(k.vkey + "\n" + k.vkey + "\n"))
	f.Add(secret)
	f.Add(bytes.ReplaceAll(secret, []byte("+"), []byte("++")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if vkeys, err := parsePub(b); err == nil {
			if again := strings.Join(vkeys, "\n") + "\n"; again != string(b) {
				t.Fatalf("%q is read as %q", b, again)
			}
		}
		s, err := parseKey(b)
		if err != nil {
			if len(b) > 60 && strings.Contains(err.Error(), string(b[40:60])) {
				t.Fatalf("the error quotes the key: %v", err)
			}
			return
		}
		if v, err := parseVkey(s.vkey); err != nil || v.KeyHash() != s.KeyHash() || v.Name() != s.Name() {
			t.Fatalf("%q has verifier key %q: %v", s.Name(), s.vkey, err)
		}
	})
}
