package engine

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// gate is a writer that blocks until it is opened.
type gate struct {
	entered chan struct{} // capacity 1: somebody waits
	open    chan struct{}
	to      bytes.Buffer
}

func newGate() *gate { return &gate{entered: make(chan struct{}, 1), open: make(chan struct{})} }

func (g *gate) Write(b []byte) (int, error) {
	select {
	case g.entered <- struct{}{}:
	default:
	}
	<-g.open
	return g.to.Write(b)
}

func TestLogWriterNeverWaits(t *testing.T) {
	g := newGate()
	l := NewLogWriter(g)
	const lines = 3 * logLines
	for i := range lines {
		if n, err := io.WriteString(l, fmt.Sprintf("line %d\n", i)); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		if i == 0 {
			<-g.entered // nobody reads, and one line is on its way
		}
	}
	close(g.open)
	l.Flush()
	out := g.to.String()
	// The first is out, as many as there is room for wait, and the others are counted.
	told := fmt.Sprintf("%d log lines were dropped", lines-1-logLines)
	if !strings.HasPrefix(out, "line 0\n"+told) {
		t.Errorf("%.200s", out)
	}
	if n := strings.Count(out, "line "); n != 1+logLines {
		t.Errorf("%d lines, want %d", n, 1+logLines)
	}
}

// What is dropped last is counted too, although no line follows it.
func TestLogWriterCountsWhatIsDroppedAtTheEnd(t *testing.T) {
	var to bytes.Buffer
	l := NewLogWriter(&to)
	l.dropped.Add(7)
	l.Flush()
	if want := "7 log lines were dropped: nobody read them\n"; to.String() != want {
		t.Errorf("got %q, want %q", to.String(), want)
	}
}

func TestLogWriterKeepsTheOrder(t *testing.T) {
	var to bytes.Buffer
	l := NewLogWriter(&to)
	var want strings.Builder
	for i := range 100 {
		fmt.Fprintf(&want, "line %d\n", i)
		fmt.Fprintf(l, "line %d\n", i)
	}
	l.Flush()
	if to.String() != want.String() {
		t.Errorf("got %q", to.String())
	}
}
