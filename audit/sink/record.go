package sink

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// KindCheckpoint is the kind of what goes along with entries and is none.
const KindCheckpoint = "checkpoint"

// record is what a receiver gets: an entry, or a checkpoint.
type record struct {
	log   string       // the origin of the log
	entry merkle.Entry // of a checkpoint: its kind, and the time it was sent
	// body is the entry in the encoding of the sink; Native: its line.
	body []byte
	// note is set in a checkpoint alone, and size is how many entries it covers.
	note []byte
	size uint64
	// last is an entry after it that counts as taken with it.
	last *merkle.Entry
}

// id never changes: receivers drop what they have by it.
func (r *record) id() string {
	if r.note != nil {
		return fmt.Sprintf("%s/checkpoint/%d", r.log, r.size)
	}
	return fmt.Sprintf("%s/%d", r.log, r.entry.Seq)
}

// Checkpoint is the line of a checkpoint among lines of entries.
type Checkpoint struct {
	V    int    `json:"v"` // 1
	Kind string `json:"kind"`
	// Log is the origin, and Size how many entries it covers.
	Log  string `json:"log"`
	Size uint64 `json:"size"`
	// Checkpoint is the signed note.
	Checkpoint string `json:"checkpoint"`
}

// encoder makes the body of a record.
type encoder func(r *record) ([]byte, error)

func newEncoder(encoding string) encoder {
	if encoding == OCSF {
		return ocsf
	}
	return native
}

func native(r *record) ([]byte, error) {
	if r.note == nil {
		return r.entry.Line(), nil
	}
	return json.Marshal(Checkpoint{V: 1, Kind: KindCheckpoint, Log: r.log, Size: r.size, Checkpoint: string(r.note)})
}

// entryRecord and checkpointRecord make records with their bodies.
func entryRecord(log string, e merkle.Entry, enc encoder) (record, error) {
	r := record{log: log, entry: e}
	var err error
	r.body, err = enc(&r)
	return r, err
}

func checkpointRecord(p *merkle.Piece, at time.Time, enc encoder) (record, error) {
	r := record{log: p.Log, entry: merkle.Entry{V: 1, Kind: KindCheckpoint, Time: at.UTC()}, note: p.Checkpoint, size: p.Size}
	var err error
	r.body, err = enc(&r)
	return r, err
}
