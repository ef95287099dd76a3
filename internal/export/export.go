// Package export writes manifests as a directory that serve takes, and keeps it
// current: on a jump host, for the day the place they came from is down.
//
// # Layout
//
//	DIR/manifests                      a symbolic link to the revision in use
//	DIR/.export-DIGEST/KIND/FILE.yaml  one object each, in normal form
//
// A revision is written whole, under a name of its own, and made durable; then the
// link is renamed over the old one. Whoever reads DIR has the old revision or the
// new one, never half, whenever the power goes. The same objects give the same
// DIGEST, and then nothing is written. The revision before is kept until the next,
// for a reader that is still in it.
package export

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// Link is the name, in the directory, of what serve reads.
const Link = "manifests"

const prefix = ".export-"

var errInUse = errors.New("another export writes it now: wait for that one")

// file of a revision.
type file struct {
	path string // kind/name.yaml
	data []byte
}

// Write makes dir hold the objects and nothing else. It reports whether anything
// had to be written. Files are 0600: there may be private keys among them.
func Write(dir string, objects []source.Object) (changed bool, err error) {
	files, err := filesOf(objects)
	if err != nil {
		return false, err
	}
	if err := ours(dir); err != nil {
		return false, err
	}
	lock, err := durable.LockDir(dir, "export", errInUse)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	revision := prefix + digest(files)
	link := filepath.Join(dir, Link)
	before, err := os.Readlink(link)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("export directory %s: %w", dir, err)
	}
	if before == revision {
		return false, nil
	}
	if err := writeRevision(filepath.Join(dir, revision), files); err != nil {
		return false, fmt.Errorf("export to %s: %w", dir, err)
	}
	if err := swap(link, revision); err != nil {
		return false, fmt.Errorf("export to %s: %w", dir, err)
	}
	return true, removeOthers(dir, revision, before)
}

// filesOf the objects, in the order of their paths.
func filesOf(objects []source.Object) ([]file, error) {
	files := make([]file, 0, len(objects))
	for _, o := range objects {
		data, err := source.ManifestYAML(o.Object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
		name := o.Key.Name
		if o.Key.Namespace != "" {
			// A namespace holds no dot and no underscore, a name no underscore.
			name = o.Key.Namespace + "_" + name
		}
		files = append(files, file{filepath.Join(strings.ToLower(o.Key.Kind), name+".yaml"), data})
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.path, b.path) })
	return files, nil
}

func digest(files []file) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s %d\n", f.path, len(f.data))
		h.Write(f.data)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// ours refuses a directory that holds what no export wrote: it may be somebody's
// repository.
func ours(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("export directory: %w", err)
	}
	for _, e := range entries {
		link := e.Name() == Link && e.Type() == fs.ModeSymlink
		if !link && !strings.HasPrefix(e.Name(), prefix) {
			return fmt.Errorf("export directory %s holds %s, which no export wrote: name an empty directory, or one that an export made", dir, e.Name())
		}
	}
	return nil
}

// writeRevision writes all files, durably, below a name that nobody reads yet. A
// revision that has its name already is whole, and is that of these files.
func writeRevision(dir string, files []file) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	made := map[string]bool{}
	for _, f := range files {
		sub := filepath.Join(tmp, filepath.Dir(f.path))
		if !made[sub] {
			if err := os.Mkdir(sub, 0o700); err != nil {
				return err
			}
			made[sub] = true
		}
		if err := writeFile(filepath.Join(tmp, f.path), f.data); err != nil {
			return err
		}
	}
	for sub := range made {
		if err := durable.SyncDir(sub); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

func writeFile(path string, data []byte) error {
	f, err := durable.Open(path, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// swap points the link at another revision, in one step.
func swap(link, revision string) error {
	tmp := filepath.Join(filepath.Dir(link), prefix+"link")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(revision, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, link); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(link))
}

// removeOthers removes all revisions but these.
func removeOthers(dir string, keep ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("export directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && !slices.Contains(keep, e.Name()) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("export directory: an old revision: %w", err)
			}
		}
	}
	return nil
}
