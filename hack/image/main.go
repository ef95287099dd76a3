// Command image makes a container image out of plain files, without a daemon, a registry or a base image.
//
//	image -o FILE -tag NAME [-tag NAME]... [-user UID:GID] [-libraries] SOURCE:TARGET...
//
// FILE is an archive as `docker save` writes it, and `docker load` and `ctr images import` read it. The first TARGET is
// the entry point; a target is executable if its source is. Same files in, same image out: all times are the epoch.
//
// With -libraries the shared libraries that the sources need come along, from this machine: for a program that is not
// linked statically, in an image that has no system.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

type strs []string

func (s *strs) String() string     { return strings.Join(*s, ",") }
func (s *strs) Set(v string) error { *s = append(*s, v); return nil }

func main() {
	var tags strs
	out := flag.String("o", "", "archive to write")
	user := flag.String("user", "65532:65532", "user and group of the process")
	libraries := flag.Bool("libraries", false, "take the shared libraries of the sources along")
	flag.Var(&tags, "tag", "name of the image; may be given again")
	flag.Parse()
	if err := run(*out, tags, *user, *libraries, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(out string, tags []string, user string, libraries bool, args []string) error {
	if out == "" || len(tags) == 0 || len(args) == 0 {
		return errors.New("give -o FILE, -tag NAME and at least one SOURCE:TARGET")
	}
	var files []file
	for _, arg := range args {
		source, target, ok := strings.Cut(arg, ":")
		if !ok || !filepath.IsAbs(target) {
			return fmt.Errorf("%q is not SOURCE:TARGET with an absolute target", arg)
		}
		files = append(files, file{source: source, target: target})
	}
	if libraries {
		needed, err := needs(files)
		if err != nil {
			return err
		}
		files = append(files, needed...)
	}
	image, err := build(files, user)
	if err != nil {
		return err
	}
	return write(out, tags, image)
}

func build(files []file, user string) (v1.Image, error) {
	layer, err := layer(files)
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{
		Entrypoint: []string{files[0].target},
		User:       user,
		WorkingDir: "/",
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	return mutate.ConfigFile(image, config)
}

// write replaces out when the archive is whole.
func write(out string, tags []string, image v1.Image) error {
	images := map[name.Tag]v1.Image{}
	for _, tag := range tags {
		t, err := name.NewTag(tag, name.StrictValidation)
		if err != nil {
			return err
		}
		images[t] = image
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	temporary := out + ".new"
	defer os.Remove(temporary)
	if err := tarball.MultiWriteToFile(temporary, images); err != nil {
		return fmt.Errorf("write %s: %w", temporary, err)
	}
	return os.Rename(temporary, out)
}
