package testbed

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// Witness looks, at the moment in which a request reaches the backend, whether its
// intent is in the audit log.
type Witness struct {
	dir string

	mu      sync.Mutex
	offsets map[string]int64
	intents map[string]int // by path
	reached map[string]int // likewise
	without []string
}

// Witness of the backend of this world, until the spec ends.
func (w *World) Witness() *Witness {
	x := &Witness{dir: w.LogDir(), offsets: map[string]int64{}, intents: map[string]int{}, reached: map[string]int{}}
	w.Backend.mu.Lock()
	defer w.Backend.mu.Unlock()
	w.Backend.before = x.see
	DeferCleanup(x.Stop, w.Backend)
	return x
}

// Stop looking.
func (x *Witness) Stop(b *Backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = nil
}

func (x *Witness) see(r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	path := r.URL.Path
	x.reached[path]++
	if x.intents[path] < x.reached[path] {
		x.read()
	}
	if x.intents[path] < x.reached[path] {
		x.without = append(x.without, path)
	}
}

// read what the log has more than before. A line that is not whole is none yet.
func (x *Witness) read() {
	files, _ := filepath.Glob(filepath.Join(x.dir, "segment-*.jsonl")) // the pattern is good
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue // it has no intents then
		}
		b, err := io.ReadAll(io.NewSectionReader(f, x.offsets[file], 1<<40))
		_ = f.Close() // it was read only
		if err != nil {
			continue
		}
		whole := bytes.LastIndexByte(b, '\n') + 1
		x.offsets[file] += int64(whole)
		for line := range bytes.Lines(b[:whole]) {
			var e struct {
				Kind string
				Data audit.RequestEntry
			}
			if bytes.Contains(line, []byte(`"type":"`+audit.TypeIntent+`"`)) && json.Unmarshal(line, &e) == nil && e.Kind == audit.KindRequest {
				path, _, _ := strings.Cut(e.Data.Path, "?")
				x.intents[path]++
			}
		}
	}
}

// Without are the paths that reached the backend before their intent was in the log.
func (x *Witness) Without() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]string{}, x.without...)
}

// Reached is how many requests did.
func (x *Witness) Reached() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, hits := range x.reached {
		n += hits
	}
	return n
}
