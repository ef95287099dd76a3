package merkle

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

const childDir = "MERKLE_TEST_CHILD_DIR"

// TestMain is also the process that is killed: it appends, and says what was
// acknowledged.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	l, err := Open(dir, Options{Log: quiet, SegmentBytes: 20_000, Retention: -1})
	if err != nil {
		return err
	}
	from := 0
	if at := l.Cursor("w0"); at != "" {
		if from, err = strconv.Atoi(at); err != nil {
			return err
		}
	}
	fmt.Println("open", from)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			name := fmt.Sprint("w", w)
			n, _ := strconv.Atoi(l.Cursor(name))
			for {
				n++
				var ds []Draft
				for range 1 + n%3 {
					ds = append(ds, Draft{Kind: "request", Data: fmt.Appendf(nil, `{"w":%d,"n":%d}`, w, n)})
				}
				ds[len(ds)-1].Cursors = map[string]string{name: strconv.Itoa(n)}
				if err := l.Append(context.Background(), ds...); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Println("ack", w, n)
				if n%50 == 0 && w == 0 {
					if err := l.RotateKey(); err != nil {
						fmt.Fprintln(os.Stderr, err)
						os.Exit(1)
					}
				}
			}
		})
	}
	wg.Wait()
	return nil
}

func TestNoAcknowledgedEntryIsMissingAfterSIGKILL(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	acked := map[int]int{} // by w: the n up to which
	var kept [][]byte
	for round := range 30 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Some acknowledgements, then a random moment.
		want, got, seen := rand.IntN(200), 0, map[int]bool{}
		s := bufio.NewScanner(out)
		for s.Scan() {
			var w, n int
			if c, _ := fmt.Sscanf(s.Text(), "ack %d %d", &w, &n); c == 2 {
				// The first of a round may come after one that was not told.
				if seen[w] && n != acked[w]+1 {
					t.Fatalf("acknowledged %d after %d", n, acked[w])
				}
				acked[w], seen[w] = n, true
				got++
			}
			if got == want {
				time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("round %d: the child was not killed: %v", round, err)
		}
		check(t, dir, acked, kept)
		if b, err := os.ReadFile(filepath.Join(dir, checkpointName)); err == nil {
			kept = append(kept, b)
		}
	}
	l := open(t, dir, Options{})
	closeLog(t, l)
	sound(t, dir, VerifyOptions{Checkpoints: kept})
}

// check looks at what the killed process left, as it is.
func check(t *testing.T, dir string, acked map[int]int, kept [][]byte) {
	t.Helper()
	there, twice := map[string]bool{}, map[int]int{}
	err := Read(t.Context(), dir, Filter{}, func(e Entry) error {
		for name, at := range e.Cursors {
			if e.Kind == "request" {
				var w int
				fmt.Sscanf(name, "w%d", &w)
				n, _ := strconv.Atoi(at)
				if n != twice[w]+1 {
					return fmt.Errorf("%s goes from %d to %d", name, twice[w], n)
				}
				twice[w] = n
				there[name+" "+at] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for w, n := range acked {
		for i := 1; i <= n; i++ {
			if !there[fmt.Sprintf("w%d %d", w, i)] {
				t.Fatalf("entry %d of %d was acknowledged and is missing", i, w)
			}
		}
	}
	r := verify(t, dir, VerifyOptions{Checkpoints: kept})
	for _, f := range r.Findings {
		// Killed between an entry and its hash.
		if filepath.Base(f.File) != hashesName || f.Seq < r.Size-r.Unsigned {
			t.Fatalf("%+v", f)
		}
	}
}
