package sink

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// cursor is up to where a sink has taken the log. It is in a file of its own,
// STATEDIR/NAME.json, of mode 0600.
type cursor struct {
	V int `json:"v"` // 1
	// Log is the origin of the log; "": none was seen yet.
	Log string `json:"log"`
	// Next is the seq of the first entry that it has not taken.
	Next uint64 `json:"next"`
	// Last is the leaf hash of the entry before, in hex: by it another log in the
	// place of this one is told. "": not known.
	Last string `json:"last,omitempty"`
	// Mark is what the receiver's own bookkeeping needs: see jsonLines.
	Mark string `json:"mark,omitempty"`
}

func cursorFile(dir, name string) string { return filepath.Join(dir, name+".json") }

// readCursor returns nil when there is none.
func readCursor(path string) (*cursor, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var c cursor
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err == nil && c.V != 1 {
		err = fmt.Errorf("version %d", c.V)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cursor of the sink: %w: to deliver all of the log again, remove %s", err, path)
	}
	return &c, nil
}

func (c *cursor) write(path string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := durable.Replace(path, append(b, '\n')); err != nil {
		return fmt.Errorf("write the cursor of the sink: %w", err)
	}
	return nil
}

// passed moves the cursor behind an entry.
func (c *cursor) passed(e *merkle.Entry) {
	leaf := merkle.LeafOf(e.Line())
	c.Next, c.Last = e.Seq+1, hex.EncodeToString(leaf[:])
}

// errRewritten: what the sink has taken is not what the log has.
var errRewritten = errors.New("the log is not the one that this sink has taken so far")

// check says whether the log in dir, which covers size entries, goes on from the
// cursor.
func (c *cursor) check(dir string, size uint64, path string) error {
	remedy := "find out who did that (breakglass audit verify --against a copy that a sink has made); to deliver what is there now, remove " + path
	if size < c.Next {
		return fmt.Errorf("%w: it has %d entries, and %d were taken: %s", errRewritten, size, c.Next, remedy)
	}
	if c.Next == 0 || c.Last == "" {
		return nil
	}
	leaf, err := merkle.Leaf(dir, c.Next-1)
	if err != nil {
		return err
	}
	if hex.EncodeToString(leaf[:]) != c.Last {
		return fmt.Errorf("%w: entry %d is another: %s", errRewritten, c.Next-1, remedy)
	}
	return nil
}
