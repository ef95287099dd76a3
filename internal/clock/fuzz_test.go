package clock

import (
	"bytes"
	"testing"
	"time"
)

// FuzzMark: a mark that is taken is in the one form in which it is written, so
// that no change of it goes unseen.
func FuzzMark(f *testing.F) {
	good, err := mark{Mark: time.Date(2026, 11, 25, 12, 0, 0, 5, time.UTC), Boot: "a-b", Elapsed: time.Hour}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"v":1`), []byte(`"v":01`), 1))
	f.Add(append(bytes.Clone(good), '\n'))
	f.Add([]byte(`{"v":1,"mark":"9999-12-31T23:59:60Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMark(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is read as %q: %v", b, again, err)
		}
	})
}
