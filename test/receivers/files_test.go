package receivers

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// linesOf are the lines of entries in a file, without checkpoints.
func linesOf(t testing.TB, path string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for l := range bytes.Lines(b) {
		if !bytes.HasPrefix(l, []byte(`{"v":1,"kind":"checkpoint"`)) {
			out = append(out, strings.TrimSuffix(string(l), "\n"))
		}
	}
	return out
}

// wholeFile fails unless the file has the lines of the log, in order and each once.
func (w *world) wholeFile(path string) {
	w.t.Helper()
	want := w.lines()
	eventually(w.t, "all lines are there", func() bool { return len(linesOf(w.t, path)) >= len(want) })
	if got := linesOf(w.t, path); strings.Join(got, "\n") != strings.Join(want, "\n") {
		w.t.Errorf("%d lines, and the log has %d", len(got), len(want))
	}
}
