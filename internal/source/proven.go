package source

import (
	"crypto/sha256"
	"os"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/breakglass-gateway/breakglass-gateway/api/crds"
)

// proven are the texts of documents in which this very program found nothing
// wrong, by hash. To validate one against its CRD costs most of what a start
// costs, and the day on which serve has to start again is a bad one. What it
// leaves out is that validation; a text is decoded and gets its defaults all the
// same, and whatever depends on other objects is judged as ever. Nothing is
// closed by validation alone: the translator keeps its locks on objects that were
// never validated.
//
// A nil proven proves nothing.
type proven struct {
	path string

	mu    sync.Mutex
	known map[hash]bool // and whether it was met since the start
	fresh bool          // there are more than in the file
}

type hash = [sha256.Size]byte

// readProven takes what an earlier process left. A file of another program, or one
// that is not whole, says nothing.
func readProven(path string) *proven {
	if path == "" {
		return nil
	}
	p := &proven{path: path, known: map[hash]bool{}}
	b, err := os.ReadFile(path)
	if err != nil {
		return p
	}
	sum := program()
	if len(b)%sha256.Size != 0 || len(b) < 2*sha256.Size || hash(b[:sha256.Size]) != sum {
		return p
	}
	body, end := b[sha256.Size:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if sha256.Sum256(body) != hash(end) {
		return p
	}
	for h := range slices.Chunk(body, sha256.Size) {
		p.known[hash(h)] = false
	}
	return p
}

// program is what a proof is worth nothing without: the schemas, and the code that
// checks by them.
var program = sync.OnceValue(func() hash {
	h := sha256.New()
	for _, k := range kinds {
		if k.crd != "" {
			b, _ := crds.FS.ReadFile(k.crd) // one that cannot be read is told when it is compiled
			h.Write(b)
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		h.Write([]byte(info.String()))
	}
	return hash(h.Sum(nil))
})

// has reports whether a document needs no validation.
func (p *proven) has(h hash) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.known[h]
	if ok {
		p.known[h] = true
	}
	return ok
}

func (p *proven) add(h hash) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known[h], p.fresh = true, true
}

// save writes what was met since the start, if there is anything new. To lose it
// costs time only, so that an error is nobody's business.
func (p *proven) save() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.fresh {
		return
	}
	sum := program()
	var body []byte
	for h, met := range p.known {
		if met {
			body = append(body, h[:]...)
		}
	}
	end := sha256.Sum256(body)
	tmp := p.path + ".tmp"
	if os.WriteFile(tmp, slices.Concat(sum[:], body, end[:]), 0o600) == nil && os.Rename(tmp, p.path) == nil {
		p.fresh = false
	}
}
