package audit

import (
	"fmt"
	"os"
	"path/filepath"
)

// Control reads the control entries one after another, also those that are
// written while it reads. It belongs to one goroutine.
type Control struct {
	journal *Journal
	file    *os.File
	reader  *controlReader
}

// Control begins with the first entry.
func (j *Journal) Control() (*Control, error) {
	path := filepath.Join(j.dir, controlName)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return &Control{journal: j, file: f, reader: newControlReader(path, f)}, nil
}

// Next returns the entries of the next batch that is durable, nil when there is
// none yet.
func (c *Control) Next() ([]Entry, error) {
	return c.reader.next(c.journal.limit())
}

// Changed is closed when there may be more entries than there were when it was
// called.
func (j *Journal) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changed
}

// Close ends the reading.
func (c *Control) Close() error { return c.file.Close() }
