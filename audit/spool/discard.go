package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Committed deletes the files before the one that position is in: all that was
// in them is durable elsewhere.
func (t *Tail) Committed(position string) error {
	p, err := parsePosition(position)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, f := range t.files[:min(t.at+1, len(t.files))] {
		if f.id == p.id {
			return t.discard(i)
		}
	}
	return fmt.Errorf("position %.100q is not in the spool", position)
}

// discard the n oldest files.
func (t *Tail) discard(n int) error {
	for range n {
		f := t.files[0]
		path := filepath.Join(t.o.Dir, f.name)
		err := error(nil)
		if size, sizeErr := f.size(); f.end > 0 && (sizeErr != nil || size > f.end) {
			// Cannot be, see advance; if it is, it must not be lost.
			t.o.Log.Error("somebody wrote to a file of the spool after its successor was begun: it is kept", "file", path+".late", "read", f.end, "size", size)
			err = os.Rename(path, path+".late")
		} else {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		_ = f.f.Close() // nothing was written
		t.files = t.files[1:]
		t.at--
	}
	return nil
}
