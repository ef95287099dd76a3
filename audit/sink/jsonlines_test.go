package sink

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

func TestAFileGetsEachLineOfTheLogByteForByte(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, filepath.Join(dir, "log"), merkle.Options{SegmentBytes: 4000})
	add(t, l, "request", 0, 100)
	out := filepath.Join(dir, "out.jsonl")
	start(t, Options{Dir: filepath.Join(dir, "log"), StateDir: filepath.Join(dir, "sinks"), Config: jsonLinesConfig("copy", out)})
	add(t, l, "request", 100, 300)
	eventually(t, "all lines are there", func() bool { e, _ := entriesIn(t, out); return len(e) == int(l.Size()) })
	entries, checkpoints := entriesIn(t, out)
	if !same(entries, logLines(t, filepath.Join(dir, "log"))) {
		t.Error("the lines are not those of the log")
	}
	if len(checkpoints) == 0 {
		t.Error("no checkpoint went along")
	}
	if st, err := os.Stat(out); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestAFileHasNoLineTwiceWhenTheCursorIsOlderThanTheFile(t *testing.T) {
	dir := t.TempDir()
	logDir, state, out := filepath.Join(dir, "log"), filepath.Join(dir, "sinks"), filepath.Join(dir, "out.jsonl")
	l := openLog(t, logDir, merkle.Options{})
	o := Options{Dir: logDir, StateDir: state, Config: jsonLinesConfig("copy", out)}
	var cursors []string
	for round := range 5 {
		s := start(t, o)
		add(t, l, "request", round*20, round*20+20)
		eventually(t, "all lines are there", func() bool { e, _ := entriesIn(t, out); return len(e) == int(l.Size()) })
		stop(t, s)
		b, err := os.ReadFile(cursorFile(state, "copy"))
		if err != nil {
			t.Fatal(err)
		}
		cursors = append(cursors, string(b))
	}
	// As after a crash: the file has more than the cursor says, and half a line.
	for _, c := range cursors {
		if err := os.WriteFile(cursorFile(state, "copy"), []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(out, os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = fmt.Fprint(f, `{"v":1,"seq":7,"ti`+strings.Repeat("x", 1000)) // longer than what follows
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		s := start(t, o)
		add(t, l, "request", 0, 1)
		newest := fmt.Sprintf(`{"v":1,"seq":%d,`, l.Size()-1)
		eventually(t, "the newest line is there", func() bool {
			e, _ := entriesIn(t, out)
			return strings.HasPrefix(string(e[len(e)-1]), newest)
		})
		stop(t, s)
		if entries, _ := entriesIn(t, out); !same(entries, logLines(t, logDir)) {
			t.Fatalf("%d lines, and the log has %d", len(entries), l.Size())
		}
	}
}

// Who is killed again before he has got on knows still what the file has.
func TestAFileHasNoLineTwiceHoweverOftenTheSinkDies(t *testing.T) {
	dir := t.TempDir()
	logDir, state, out := filepath.Join(dir, "log"), filepath.Join(dir, "sinks"), filepath.Join(dir, "out.jsonl")
	l := openLog(t, logDir, merkle.Options{})
	add(t, l, "request", 0, 500)
	eventually(t, "it is signed", func() bool { n, _ := logSize(logDir); return n == l.Size() })
	config := jsonLinesConfig("copy", out)
	if err := config.validate(); err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: logDir, StateDir: state, Config: config, Log: quiet, Now: time.Now, pace: &quick}
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for life := range 60 {
		f := newFollower(&o, &o.Config.Sinks[0])
		if err := f.find(); err != nil {
			t.Fatal(err)
		}
		// So many turns, after which the cursor is saved now and then.
		turns := life * 7 % 5
		if life == 59 {
			turns = 20
		}
		for range turns {
			f.saved = time.Now()
			if _, err := f.turn(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if life%8 == 7 {
			if err := f.save(); err != nil {
				t.Fatal(err)
			}
		}
		_ = f.to.close() // and it dies
	}
	if entries, _ := entriesIn(t, out); !same(entries, logLines(t, logDir)) {
		t.Errorf("%d lines, and the log has %d", len(entries), l.Size())
	}
}

func TestAFileThatWasMovedAwayIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	logDir, out := filepath.Join(dir, "log"), filepath.Join(dir, "out.jsonl")
	l := openLog(t, logDir, merkle.Options{})
	start(t, Options{Dir: logDir, StateDir: filepath.Join(dir, "sinks"), Config: jsonLinesConfig("copy", out)})
	add(t, l, "request", 0, 10)
	first := int(l.Size())
	eventually(t, "the lines are there", func() bool { e, _ := entriesIn(t, out); return len(e) == first })
	if err := os.Rename(out, out+".1"); err != nil {
		t.Fatal(err)
	}
	add(t, l, "request", 10, 20)
	eventually(t, "the rest is in a new file", func() bool { e, _ := entriesIn(t, out); return len(e) == int(l.Size())-first })
	old, _ := entriesIn(t, out+".1")
	rest, _ := entriesIn(t, out)
	if !same(append(old, rest...), logLines(t, logDir)) {
		t.Error("the two files together are not the log")
	}
}

func TestAFileThatCannotBeMadeIsSaid(t *testing.T) {
	w := newWorld(t)
	w.Config = jsonLinesConfig("copy", filepath.Join(w.dir, "nowhere", "out.jsonl"))
	add(t, w.log, "request", 0, 3)
	start(t, w.Options)
	eventually(t, "it fails", func() bool { return slices.Contains(w.states.events(), audit.SinkFailing) })
	if r := w.states.last().Reason; !strings.Contains(r, "no such file or directory") {
		t.Error(r)
	}
	if err := os.Mkdir(filepath.Join(w.dir, "nowhere"), 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it works", func() bool { return w.states.last().Event == audit.SinkWorking })
}
