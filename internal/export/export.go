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
// DIGEST, and then nothing is written, unless somebody changed what is there: then
// they are written anew, under .export-DIGEST-2. The revision before is kept until
// the next, for a reader that is still in it.
//
// A name that ends in .tmp is of something that is not yet, or no longer, whole.
// The next export removes what an interrupted one left of it.
package export

import (
	"bytes"
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

const (
	prefix = ".export-"
	// unfinished ends the name of what nobody may read.
	unfinished = ".tmp"
)

var (
	errInUse   = errors.New("another export writes it now: wait for that one")
	errDiffers = errors.New("another file")
)

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
	if err := removeUnfinished(dir); err != nil {
		return false, err
	}
	link := filepath.Join(dir, Link)
	before, err := os.Readlink(link)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("export directory %s: %w", dir, err)
	}
	name := prefix + digest(files)
	if (before == name || strings.HasPrefix(before, name+"-")) && holds(filepath.Join(dir, before), files) {
		return false, nil
	}
	revision, there := nameFor(dir, name, files)
	if !there {
		if err := writeRevision(dir, revision, files); err != nil {
			return false, fmt.Errorf("export to %s: %w", dir, err)
		}
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

// nameFor finds a name for the revision of these files, and whether it is there. A
// name alone proves nothing: what bears it may have been edited since.
func nameFor(dir, name string, files []file) (revision string, there bool) {
	revision = name
	for n := 2; ; n++ {
		path := filepath.Join(dir, revision)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return revision, false
		}
		if holds(path, files) {
			return revision, true
		}
		revision = fmt.Sprintf("%s-%d", name, n)
	}
}

// holds reports whether these files are below dir, and no others.
func holds(dir string, files []file) bool {
	missing := make(map[string][]byte, len(files))
	for _, f := range files {
		missing[f.path] = f.data
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, there := missing[name]
		if !there || !e.Type().IsRegular() {
			return errDiffers
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(data, want) {
			return errDiffers
		}
		delete(missing, name)
		return nil
	})
	// What cannot be read is as good as another: a revision that can is written.
	return err == nil && len(missing) == 0
}

// writeRevision writes all files, durably, below a name that nobody reads yet.
func writeRevision(dir, revision string, files []file) error {
	tmp := filepath.Join(dir, revision+unfinished)
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
	if err := os.Rename(tmp, filepath.Join(dir, revision)); err != nil {
		return err
	}
	return durable.SyncDir(dir)
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
	tmp := filepath.Join(filepath.Dir(link), prefix+"link"+unfinished)
	if err := os.Symlink(revision, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, link); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(link))
}

// removeAll is replaced by a test, by one that is interrupted.
var removeAll = os.RemoveAll

// removeOthers removes all revisions but these. Each loses its name first, for
// good: what a removal that is interrupted leaves must not be taken for a revision.
func removeOthers(dir string, keep ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("export directory: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || slices.Contains(keep, e.Name()) {
			continue
		}
		old := filepath.Join(dir, e.Name())
		if err := os.Rename(old, old+unfinished); err != nil {
			return fmt.Errorf("export directory: an old revision: %w", err)
		}
	}
	if err := durable.SyncDir(dir); err != nil {
		return fmt.Errorf("export directory: %w", err)
	}
	return removeUnfinished(dir)
}

// removeUnfinished removes what is not whole.
func removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("export directory: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || !strings.HasSuffix(e.Name(), unfinished) {
			continue
		}
		if err := removeAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("export directory: what is left of an old revision: %w", err)
		}
	}
	return nil
}
