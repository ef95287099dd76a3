package merkle

import (
	"bytes"
	"encoding/json"
	"time"
)

// Entry is one leaf of the log: one line of a segment.
type Entry struct {
	// V is the version of this schema, 1.
	V int `json:"v"`
	// Seq is the index of the leaf, from 0, without holes.
	Seq uint64 `json:"seq"`
	// Time is in UTC with microseconds.
	Time time.Time `json:"time"`
	// Kind is 1 to 32 of [a-z].
	Kind string `json:"kind"`
	// Data is any JSON value, at most 1 MiB.
	Data json.RawMessage `json:"data"`
	// Cursors say up to where the sources are in the log, this entry included.
	// Only those that this entry moves are in it; "" ends a source.
	Cursors map[string]string `json:"cursors,omitempty"`
}

// Draft is an entry that has no place yet.
type Draft struct {
	Time    time.Time // zero: now
	Kind    string
	Data    json.RawMessage
	Cursors map[string]string
}

// EncodeData is the data of an entry, compact and with nothing escaped for HTML: six
// bytes for one would be a client's to choose.
func EncodeData(v any) (json.RawMessage, error) {
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(data.Bytes(), []byte("\n")), err
}

// Kinds of entries that the log makes itself.
const (
	KindSegment   = "segment"   // the first of each segment
	KindKey       = "key"       // the signing key changed
	KindRetention = "retention" // segments were removed because of their age
)
