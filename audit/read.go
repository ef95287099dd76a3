package audit

import (
	"fmt"
	"os"
	"path/filepath"
)

// Replay hands every control entry that counts to fn, in order. It ends at the
// first error of fn, and returns it.
func (j *Journal) Replay(fn func(Entry) error) error {
	j.mu.Lock()
	limit := j.at.off
	j.mu.Unlock()
	path := filepath.Join(j.dir, controlName)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("replay the journal: %w", err)
	}
	defer f.Close()
	r := newControlReader(path, f)
	for {
		entries, err := r.next(limit)
		if err != nil {
			return fmt.Errorf("replay the journal: %w", err)
		}
		if entries == nil {
			return nil
		}
		for _, e := range entries {
			if err := fn(e); err != nil {
				return err
			}
		}
	}
}

// limit is the size of the part of control.jsonl that counts.
func (j *Journal) limit() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.at.off
}
