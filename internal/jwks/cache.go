package jwks

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// stored is a last good answer on disk.
type stored struct {
	Policy    string    `json:"policy"`
	Issuer    string    `json:"issuer"`
	URI       string    `json:"uri"`
	FetchedAt time.Time `json:"fetchedAt"`
	Body      []byte    `json:"body"` // base64
}

// maxFile is above what MaxBytes of body can become.
const maxFile = 2*MaxBytes + 8<<10

// Cached reads the last good answer for key from dir, the directory of a
// Fetcher. It fails if there is none, if it is of another URI, if it does not
// parse now, or if it is no longer usable at now.
func Cached(dir string, key Key, src Source, now time.Time) (Result, error) {
	path := cachePath(dir, key)
	data, err := readPrivate(path)
	if err != nil {
		return Result{}, err
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return Result{}, fmt.Errorf("%s is damaged and ignored: delete it", path)
	}
	if s.URI != src.URI || s.Policy != key.Policy || s.Issuer != key.Issuer {
		return Result{}, fmt.Errorf("%s is of another jwks.remote.uri and ignored", path)
	}
	set, err := Parse(s.Body, src.Algorithms)
	if err != nil {
		return Result{}, fmt.Errorf("%s is ignored: %w", path, err)
	}
	// Its age is unknown, so that maxStale could not bound it.
	if s.FetchedAt.After(now) {
		return Result{}, fmt.Errorf("%s is ignored: it was fetched at %s, which is in the future: check the clock", path, s.FetchedAt.Format(time.RFC3339))
	}
	res := Result{Set: set, Raw: s.Body, FetchedAt: s.FetchedAt, Stale: true, Expires: s.FetchedAt.Add(v1alpha1.PositiveOr(src.MaxStale, defaultMaxStale))}
	if !now.Before(res.Expires) {
		return Result{}, fmt.Errorf("%s is ignored: it is older than jwks.remote.maxStale", path)
	}
	return res, nil
}

// cachePath does not show names: they may be longer than a file name, and two
// pairs must not share one.
func cachePath(dir string, key Key) string {
	sum := sha256.Sum256([]byte(key.Policy + "\x00" + key.Issuer))
	return filepath.Join(dir, hex.EncodeToString(sum[:16])+".json")
}

// readPrivate reads a file that nobody but us and root can have written. Its
// keys decide who comes in.
func readPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is ignored: it is not a regular file", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%s is ignored: others can write it (mode %04o): delete it", path, info.Mode().Perm())
	case owner != 0 && int(owner) != os.Geteuid():
		return nil, fmt.Errorf("%s is ignored: it belongs to user id %d: delete it", path, owner)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s is ignored: it is too large: delete it", path)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// save writes the last good answer so that after a crash at any moment the file
// is the old one or the new one.
func save(dir string, key Key, s stored) error {
	if err := makePrivateDir(dir); err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	path := cachePath(dir, key)
	tmp := path + ".tmp" // one writer at a time, see Fetcher.disk
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func makePrivateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}
