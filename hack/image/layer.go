package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"regexp"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// file is copied from source, on this machine, to target, in the image.
type file struct{ source, target string }

// What every program may expect to find, as in the distroless images.
var system = []struct{ target, content string }{
	{"/etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"},
	{"/etc/group", "root:x:0:\nnonroot:x:65532:\n"},
	{"/etc/nsswitch.conf", "hosts: files dns\n"},
}

// layer has the files, in a tar that is not compressed: it is read on the machine that wrote it.
func layer(files []file) (v1.Layer, error) {
	var content bytes.Buffer
	w := &writer{tar: tar.NewWriter(&content), made: map[string]bool{}}
	if err := w.directory("/tmp", 0o1777); err != nil {
		return nil, err
	}
	for _, f := range system {
		if err := w.bytes(f.target, 0o644, []byte(f.content)); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		if err := w.copy(f); err != nil {
			return nil, err
		}
	}
	if err := w.tar.Close(); err != nil {
		return nil, err
	}
	return static.NewLayer(content.Bytes(), types.DockerUncompressedLayer), nil
}

type writer struct {
	tar  *tar.Writer
	made map[string]bool
}

func (w *writer) copy(f file) error {
	content, err := os.ReadFile(f.source)
	if err != nil {
		return err
	}
	info, err := os.Stat(f.source)
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	return w.bytes(f.target, mode, content)
}

func (w *writer) bytes(target string, mode int64, content []byte) error {
	if err := w.directory(path.Dir(target), 0o755); err != nil {
		return err
	}
	if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: target[1:], Mode: mode, Size: int64(len(content))}); err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	_, err := w.tar.Write(content)
	return err
}

func (w *writer) directory(target string, mode int64) error {
	if target == "/" || w.made[target] {
		return nil
	}
	if err := w.directory(path.Dir(target), 0o755); err != nil {
		return err
	}
	w.made[target] = true
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: target[1:] + "/", Mode: mode})
}

// library is a line of ldd: a file with its path, alone (the loader) or after an arrow.
var library = regexp.MustCompile(`(?m)^\t(?:\S+ => )?(/\S+) \(0x`)

// needs returns the shared libraries of programs, and the loader.
func needs(programs []file) ([]file, error) {
	var out []file
	seen := map[string]bool{}
	for _, p := range programs {
		text, err := exec.Command("ldd", p.source).Output()
		if err != nil {
			return nil, fmt.Errorf("ldd %s, to know what it needs: %w", p.source, err)
		}
		if bytes.Contains(text, []byte("not found")) {
			return nil, fmt.Errorf("%s needs libraries that this machine does not have:\n%s", p.source, text)
		}
		for _, m := range library.FindAllSubmatch(text, -1) {
			if l := string(m[1]); !seen[l] {
				seen[l] = true
				out = append(out, file{source: l, target: l})
			}
		}
	}
	return out, nil
}
