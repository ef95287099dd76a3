package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// world is an Envoy, a tail, and a log that remembers the position of its last
// durable record, as the recorder does.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	o     Options
	envoy *os.File
	n     int
	want  []string // rows that were written as a whole
	tail  *Tail
	log   []Record // durable
	batch []Record // read, not durable
}

func (w *world) openEnvoy() {
	if w.envoy != nil {
		_ = w.envoy.Close()
	}
	var err error
	w.envoy, err = os.OpenFile(filepath.Join(w.o.Dir, current), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(text string) {
	if _, err := w.envoy.WriteString(text); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) next() string {
	w.n++
	return fmt.Sprint("k", w.n)
}

func (w *world) position() string {
	if len(w.log) == 0 {
		return ""
	}
	return w.log[len(w.log)-1].Position
}

func (w *world) step() {
	switch n := w.rng.IntN(20); {
	case n < 8:
		for range 1 + w.rng.IntN(4) {
			key := w.next()
			w.write(rowOf(key) + "\n")
			w.want = append(w.want, key)
		}
	case n == 8: // Envoy is killed within a write, and starts anew
		key := w.next()
		text := rowOf(key)
		text = text[:w.rng.IntN(len(text)+1)]
		w.write(text)
		if json.Valid([]byte(text)) {
			w.want = append(w.want, key)
		}
		w.openEnvoy()
	case n == 9: // in order
		w.openEnvoy()
	case n == 10: // Envoy hears of it, or not
		if _, _, err := w.tail.setAside(); err != nil {
			w.t.Fatal(err)
		}
		if w.rng.IntN(2) == 0 {
			w.openEnvoy()
		}
	case n < 15:
		records, _, err := w.tail.Read(1 + w.rng.IntN(5))
		if err != nil {
			w.t.Fatal(err)
		}
		w.batch = append(w.batch, records...)
	case n < 18:
		w.commit()
	default: // the recorder is killed
		if err := w.tail.Close(); err != nil {
			w.t.Fatal(err)
		}
		w.batch = nil
		w.open()
	}
}

// commit makes a part of what was read durable, and may die before it says so.
func (w *world) commit() {
	n := w.rng.IntN(len(w.batch) + 1)
	w.log, w.batch = append(w.log, w.batch[:n]...), w.batch[n:]
	if n > 0 && w.rng.IntN(4) > 0 {
		if err := w.tail.Committed(w.position()); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) open() {
	tail, err := Open(w.o, w.position())
	if err != nil {
		w.t.Fatal(err)
	}
	w.tail = tail
}

func (w *world) close() {
	_ = w.envoy.Close()
	_ = w.tail.Close()
}

// check that the log has each row once and in order, and positions that rise.
func (w *world) check(seed uint64) {
	w.write("\n") // the last torn line is known to be one
	for {
		records, more, err := w.tail.Read(7)
		if err != nil {
			w.t.Fatal(err)
		}
		w.batch = append(w.batch, records...)
		if !more {
			break
		}
	}
	w.log = append(w.log, w.batch...)
	var got []string
	var last place
	for _, r := range w.log {
		p, err := parsePosition(r.Position)
		if err != nil || p.id == last.id && p.offset <= last.offset {
			w.t.Fatalf("seed %d: position %s after %+v: %v", seed, r.Position, last, err)
		}
		last = p
		if r.Row != nil {
			got = append(got, r.Row.Key)
		}
	}
	if !slices.Equal(got, w.want) {
		i := 0
		for i < min(len(got), len(w.want)) && got[i] == w.want[i] {
			i++
		}
		w.t.Fatalf("seed %d: from row %d on: read %q, written %q", seed, i, got[i:min(i+3, len(got))], w.want[i:min(i+3, len(w.want))])
	}
	if err := w.tail.Committed(w.position()); len(w.log) > 0 && err != nil {
		w.t.Fatal(err)
	}
}

func TestWhateverHappensEachRowIsReadOnce(t *testing.T) {
	for range 100 {
		seed := rand.Uint64()
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), o: options(t.TempDir())}
		w.o.RotateAt, w.o.noBell = 700, true // to close inotify takes the kernel 10 ms
		w.open()
		w.openEnvoy()
		for range 150 {
			w.step()
		}
		w.openEnvoy()
		w.check(seed)
		w.close()
	}
}

// FuzzTail: a good row is found whatever is before it, and reading on from any
// position gives what followed there.
func FuzzTail(f *testing.F) {
	f.Add([]byte("junk\n"), uint8(3))
	f.Add([]byte(rowOf("a")+"\n"+rowOf("b")[:40]), uint8(0))
	f.Add([]byte("{\"{\"{\"\x00\xff"), uint8(2))
	f.Fuzz(func(t *testing.T, junk []byte, split uint8) {
		dir, err := os.MkdirTemp("", "fuzz")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		text := string(junk) + rowOf("last") + "\n"
		at := int(split) % (len(junk) + 1)
		o := options(dir)
		o.noBell = true
		tail, err := Open(o, "")
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, current, text[:at])
		first, _ := drain(t, tail)
		write(t, dir, current, text[at:])
		rest, _ := drain(t, tail)
		all := append(first, rest...)
		if len(all) == 0 || wordOf(all[len(all)-1]) != "last" {
			t.Fatalf("the good row is not there: %+v", all)
		}
		i := int(split) % len(all)
		if err := errors.Join(tail.Close()); err != nil {
			t.Fatal(err)
		}
		if tail, err = Open(o, all[i].Position); err != nil {
			t.Fatal(err)
		}
		defer tail.Close()
		again, _ := drain(t, tail)
		if len(again) != len(all)-i-1 {
			t.Fatalf("after record %d of %d there are %d", i, len(all), len(again))
		}
		for j, r := range again {
			if want := all[i+1+j]; wordOf(r) != wordOf(want) || r.Position != want.Position {
				t.Fatalf("%+v, before %+v", r, want)
			}
		}
	})
}
