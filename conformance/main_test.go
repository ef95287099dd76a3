package conformance

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	locked  = flag.Bool("locked", false, "no tokens and no Activations: every test that sends traffic has to fail")
	logFile = flag.String("log", "", "`file` for what the suite tells; only what became of each test is told here then")
	summary = flag.String("summary", "", "`file` to write a table of the tests to")
	facts   = flag.String("facts", "", "`file` to write what is known of each test to")
	against = flag.String("against", "", "with -locked: the `file` that a run with tokens wrote to -facts: what sent traffic there must fail here")
)

// TestMain writes the summary, and turns the result of a locked run round.
func TestMain(m *testing.M) {
	flag.Parse()
	began := time.Now()
	output, err := listen(happening)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
	code := m.Run()
	output.end()
	for _, line := range happening.failures() {
		fmt.Println(line)
	}
	if err := happening.write(time.Since(began)); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		code = max(code, 1)
	}
	if *locked {
		code = verdict()
	}
	os.Exit(code)
}

// verdict of a run without tokens.
func verdict() int {
	open, closed, err := happening.locks(*against)
	if err != nil {
		fmt.Println("FAIL:", err)
		return 1
	}
	if len(open) > 0 {
		fmt.Printf("FAIL: without a token and without an Activation these tests passed, or did not run, though they send traffic: %s\n", strings.Join(open, ", "))
		return 1
	}
	fmt.Printf("ok: all %d tests that send traffic fail without tokens and Activations\n", closed)
	return 0
}

// listener reads what the tests print: when each begins is told there alone.
type listener struct {
	stdout, w *os.File
	done      chan struct{}
}

func listen(r *record) (*listener, error) {
	log := io.Discard
	if *logFile != "" {
		file, err := os.Create(*logFile)
		if err != nil {
			return nil, err
		}
		log = file
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	l := &listener{stdout: os.Stdout, w: write, done: make(chan struct{})}
	os.Stdout = write
	go func() {
		defer close(l.done)
		lines := bufio.NewReader(read)
		for {
			line, err := lines.ReadString('\n')
			fmt.Fprint(log, line)
			r.told(line, time.Now())
			if *logFile == "" {
				fmt.Fprint(l.stdout, line)
			}
			if err != nil {
				return
			}
		}
	}()
	return l, nil
}

func (l *listener) end() {
	os.Stdout = l.stdout
	l.w.Close()
	<-l.done
}

// A test of the suite begins to run, at once or after it had to wait for those that run alone.
var begins = regexp.MustCompile(`^=== (?:RUN|CONT) +TestConformance/([^/\s]+)$`)

// told takes from a line when a test began. A test is told to have taken the time of its own, without that of the cases in
// it that run side by side: so the line with its result is of no use.
func (r *record) told(line string, at time.Time) {
	found := begins.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
	if found == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of("TestConformance/" + found[1]).began = at
}
