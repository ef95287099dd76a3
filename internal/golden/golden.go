// Package golden compares what a test made with a file in its testdata.
package golden

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Updating reports whether the files are to be written and not compared.
func Updating() bool { return *update }

// Check compares got with the file at path, or writes it.
func Check(t testing.TB, path string, got []byte) {
	t.Helper()
	if Updating() {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run go test . -update in this package and read the diff\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
