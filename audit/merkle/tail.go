package merkle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// Tail reads a log from a place on, a piece at a time, for who has to stop between
// two pieces and cannot be called back: Follow for a reader with a pace of its own.
// It hands out what a checkpoint covers. One goroutine may use it.
type Tail struct {
	r    reader
	take func(Entry) error
	head treeHead
	note []byte
	last uint64 // the least that may be there
}

// NewTail reads from the entry next on. Nothing has to be there yet.
func NewTail(dir string, next uint64) *Tail {
	t := &Tail{last: next}
	t.r = reader{dir: dir, filter: Filter{From: next}, next: next, fn: func(e Entry) error { return t.take(e) }}
	return t
}

var errPiece = errors.New("the piece is full")

// Piece is what Read hands out.
type Piece struct {
	Entries []Entry
	// Log is the origin in the checkpoint that covers them, Size how many entries it
	// covers, and Checkpoint the note itself.
	Log        string
	Size       uint64
	Checkpoint []byte
	// Next is the seq from which on the next piece is. It is greater than what was
	// asked for where entries were removed because of their age.
	Next uint64
}

// ErrCutBack is returned when the log has fewer entries under its checkpoint than
// were read already.
var ErrCutBack = errors.New("the log has fewer entries than were read of it: it was cut back, or is another")

// Read returns what is there from the next entry on: at most so many entries, and
// about so many bytes, one entry at least; none when there is nothing new. What is
// not there yet at all, directory or checkpoint, is an error that is os.ErrNotExist.
func (t *Tail) Read(ctx context.Context, entries, bytes int) (p Piece, err error) {
	if t.note == nil || t.r.next >= t.head.size {
		if err := t.look(); err != nil {
			return p, err
		}
	}
	t.r.ctx, t.r.limit = ctx, t.head.size
	n := 0
	t.take = func(e Entry) error {
		p.Entries = append(p.Entries, e)
		if n += len(e.Data) + 256; len(p.Entries) >= entries || n >= bytes {
			return errPiece
		}
		return nil
	}
	if t.r.f == nil && t.r.next < t.r.limit {
		next := t.r.next
		if err := t.r.start(); err != nil {
			return p, err
		}
		if t.r.next > next {
			next = t.r.next // older ones were removed
		}
		t.r.filter.From = next
	}
	for more := t.r.next < t.r.limit; more && err == nil; {
		more, err = t.r.step()
	}
	if errors.Is(err, errPiece) {
		err = nil
	}
	if t.r.next >= t.last {
		t.last = t.r.next
	}
	p.Log, p.Size, p.Checkpoint, p.Next = t.head.origin, t.head.size, t.note, max(t.r.next, t.r.filter.From)
	return p, err
}

// look reads the newest checkpoint.
func (t *Tail) look() error {
	path := filepath.Join(t.r.dir, checkpointName)
	b, err := readSmall(path, maxNote)
	if err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	head, err := readHead(b)
	if err != nil {
		return &CorruptError{File: path, Reason: err.Error()}
	}
	if t.note != nil && head.origin != t.head.origin {
		return fmt.Errorf("%w: it was %s, and is %s", ErrCutBack, t.head.origin, head.origin)
	}
	t.head, t.note = head, b
	if head.size < t.last {
		return fmt.Errorf("%w: %d entries, and %d were read", ErrCutBack, head.size, t.last)
	}
	return nil
}

// Close closes its file. It may be read on: it goes on where it was.
func (t *Tail) Close() {
	t.r.close()
	t.r.filter.From = t.r.next
}

// Leaf is the hash of an entry as the tree has it, from the file of hashes: also of
// an entry that was removed because of its age.
func Leaf(dir string, seq uint64) (h [32]byte, err error) {
	f, err := openRead(filepath.Join(dir, hashesName))
	if err != nil {
		return h, err
	}
	defer f.Close()
	if seq > 1<<55 {
		return h, fmt.Errorf("%s: there is no entry %d", f.Name(), seq)
	}
	if _, err := f.ReadAt(h[:], tlog.StoredHashIndex(0, int64(seq))*tlog.HashSize); err != nil {
		return h, fmt.Errorf("read the hash of entry %d in %s: %w", seq, f.Name(), err)
	}
	return h, nil
}

// LeafOf is the hash of an entry by its line without the newline.
func LeafOf(line []byte) [32]byte { return tlog.RecordHash(line) }

// CheckpointHead reads origin, size and root of a checkpoint, and checks no
// signature.
func CheckpointHead(b []byte) (origin string, size uint64, root [32]byte, err error) {
	h, err := readHead(b)
	return h.origin, h.size, h.root, err
}

// OpenCheckpoint is CheckpointHead of a checkpoint that is signed with one of the
// keys (vkeys).
func OpenCheckpoint(b []byte, keys []string) (origin string, size uint64, root [32]byte, err error) {
	h, err := openOthers(b, keys)
	return h.origin, h.size, h.root, err
}

// ParseEntry reads the line of an entry, without its newline. It takes the one form
// in which entries are written, byte for byte.
func ParseEntry(line []byte) (Entry, error) {
	p, err := parseLine(line)
	if err != nil {
		return Entry{}, err
	}
	return p.entry(), nil
}

// Tree is a tree of leaves that are added one after the other.
type Tree struct{ f frontier }

// Add adds a leaf by its hash; see LeafOf.
func (t *Tree) Add(leaf [32]byte) { t.f.add(leaf, nil) }

// Size is how many leaves it has, and Root its root.
func (t *Tree) Size() uint64 { return t.f.n }

// Root is that of all leaves so far.
func (t *Tree) Root() [32]byte { return t.f.root() }

// Checkpoint is the newest checkpoint in dir; nil when there is none.
func Checkpoint(dir string) ([]byte, error) {
	b, err := readSmall(filepath.Join(dir, checkpointName), maxNote)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
