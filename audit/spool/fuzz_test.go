package spool

import (
	"os"
	"strings"
	"testing"
)

// FuzzPosition: a position that is no place in the spool is an error or begins
// anew, and never gives a row that is not there, or one twice.
func FuzzPosition(f *testing.F) {
	text := rowOf("a") + "\n" + rowOf("b") + "\n" + rowOf("c") + "\n"
	for _, s := range []string{"", "x:0", "x:1", ":", "a~1:5", "a~:5", "~:", "1:-1", "1:99999999999999999999", "1:9223372036854775807", "\x00:1"} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(2))
	}
	f.Fuzz(func(t *testing.T, position string, after uint8) {
		dir, err := os.MkdirTemp("", "fuzz")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		o := options(dir)
		o.noBell = true
		write(t, dir, current, text)
		read := func(position string) ([]Record, error) {
			tail, err := Open(o, position)
			if err != nil {
				return nil, err
			}
			defer tail.Close()
			out, _ := drain(t, tail)
			return out, nil
		}
		all, err := read("")
		if err != nil || len(all) != 3 {
			t.Fatalf("%d rows, %v", len(all), err)
		}
		// The fuzzer will not find the file's name: give it an offset that it chose.
		if _, offset, some := strings.Cut(position, ":"); some && after%2 == 1 {
			file, _, _ := strings.Cut(all[0].Position, ":")
			position = file + ":" + offset
		}
		got, err := read(position)
		if err != nil {
			return
		}
		seen := map[string]int{}
		for _, r := range got {
			// Others only say that something is missing.
			if r.Row != nil {
				seen[wordOf(r)]++
			}
		}
		for w, n := range seen {
			if n > 1 || !strings.Contains("abc", w) {
				t.Fatalf("from %q: row %q %d times", position, w, n)
			}
		}
		for i, r := range all {
			if position == r.Position && len(got) != len(all)-i-1 {
				t.Fatalf("after row %d there are %d", i, len(got))
			}
		}
	})
}
