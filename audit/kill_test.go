package audit

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const killEnv = "BREAKGLASS_TEST_JOURNAL_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		writeForever(dir)
	}
	os.Exit(m.Run())
}

// writeForever appends from several goroutines and says on standard output
// what was acknowledged, until it is killed.
func writeForever(dir string) {
	j, err := Open(dir, Options{Log: quiet})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	round := os.Getpid()
	for g := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d.%d.%d", round, g, i)
				if err := j.Append(context.Background(), entry(KindActivation, id), entry(KindActivation, id+"+")); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println("ack", id)
				mu.Unlock()
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

func TestAcknowledgedEntriesSurviveSIGKILL(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	dir := filepath.Join(t.TempDir(), "journal")
	acked := map[string]bool{}
	for round := range rounds {
		killOnce(t, dir, acked)
		if round%10 != 9 && round != rounds-1 {
			continue // the writer of the next round verifies the file too
		}
		j := mustOpen(t, dir, Options{})
		got := replay(t, j)
		seen := map[string]bool{}
		next := map[string]int{}
		for i := 0; i+1 < len(got); i += 2 {
			if got[i+1] != got[i]+"+" {
				t.Fatalf("round %d: half a batch: %q %q", round, got[i], got[i+1])
			}
			k := strings.LastIndexByte(got[i], '.')
			n, err := strconv.Atoi(got[i][k+1:])
			if err != nil || n != next[got[i][:k]] {
				t.Fatalf("round %d: %q, want number %d: lost, doubled or out of order", round, got[i], next[got[i][:k]])
			}
			next[got[i][:k]]++
			seen[got[i]] = true
		}
		if len(got)%2 != 0 {
			t.Fatalf("round %d: half a batch at the end", round)
		}
		for id := range acked {
			if !seen[id] {
				t.Fatalf("round %d: %q was acknowledged and is lost", round, id)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d rounds, %d batches acknowledged", rounds, len(acked))
}

func killOnce(t *testing.T, dir string, acked map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), killEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	var after <-chan time.Time
	for after == nil {
		line, err := lines.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "error") {
			t.Fatalf("writer: %q, %v", line, err)
		}
		if line == "ready\n" {
			after = time.After(time.Duration(rand.Int64N(int64(30 * time.Millisecond))))
		} else if id, ok := strings.CutPrefix(line, "ack "); ok {
			acked[strings.TrimSpace(id)] = true
		}
	}
	go func() {
		<-after
		cmd.Process.Kill()
	}()
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil || strings.HasPrefix(line, "error") {
			t.Fatalf("writer: %q, %v", line, err)
		}
		if id, ok := strings.CutPrefix(line, "ack "); ok {
			acked[strings.TrimSpace(id)] = true
		}
	}
	_ = cmd.Wait() // killed
}
