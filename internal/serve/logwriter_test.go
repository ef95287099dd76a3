package serve

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// gate is a writer that blocks until it is opened.
type gate struct {
	open chan struct{}
	to   bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	return g.to.Write(b)
}

func TestLogWriterNeverWaits(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	l := NewLogWriter(g)
	const lines = 3 * logLines
	for i := range lines {
		if n, err := io.WriteString(l, fmt.Sprintf("line %d\n", i)); n == 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	close(g.open)
	l.Flush()
	out := g.to.String()
	if !strings.HasPrefix(out, "line 0\n") || !strings.Contains(out, "log lines were dropped") {
		t.Errorf("%.200s", out)
	}
	if n := strings.Count(out, "line "); n >= lines || n < logLines {
		t.Errorf("%d lines of %d", n, lines)
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
