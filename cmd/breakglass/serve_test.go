package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What serve writes must never be read as what somebody reviewed, however the
// two directories are written.
func TestTheDataDirectoryIsNotInsideTheManifests(t *testing.T) {
	root := t.TempDir()
	config := filepath.Join(root, "config")
	for _, dir := range []string{config, filepath.Join(config, "data"), filepath.Join(root, "config-data")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(config, link); err != nil {
		t.Fatal(err)
	}
	t.Chdir(config)
	for _, c := range []struct {
		config, data string
		apart        bool
	}{
		{config, config, false},
		{config, filepath.Join(config, "data"), false},
		{config, filepath.Join(config, "not", "there", "yet"), false},
		{config, filepath.Join(config, "..data"), false},
		{link, filepath.Join(config, "data"), false},
		{config, filepath.Join(link, "new"), false},
		{".", "data", false},
		{config, filepath.Join(root, "config-data"), true},
		{config, filepath.Join(root, "new"), true},
		{config, root, true},
		{filepath.Join(config, "data"), filepath.Join(config, "other"), true},
		{".", "../new", true},
	} {
		if err := apart(c.config, c.data); (err == nil) != c.apart {
			t.Errorf("--config %s --data-dir %s: %v, want them apart: %t", c.config, c.data, err, c.apart)
		}
	}
}
