package dataplane

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// record says which process was started in a directory, and from what. It is a
// hint for adoption: see isEnvoyOf for the proof.
type record struct {
	PID       int       `json:"pid"`
	StartTick uint64    `json:"startTick"`
	StartedAt time.Time `json:"startedAt"`
	Epoch     string    `json:"epoch"`
	Exe       fileID    `json:"exe"`
	// Hash covers the binary, the bootstrap and the arguments: an Envoy with
	// another hash is replaced, never adopted.
	Hash string `json:"hash"`
}

// fileID names the content of a file well enough to notice a replaced binary,
// without reading 100 MB of it.
type fileID struct {
	Device uint64    `json:"device"`
	Inode  uint64    `json:"inode"`
	Size   int64     `json:"size"`
	Time   time.Time `json:"time"`
}

func identify(path string) (fileID, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileID{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, fmt.Errorf("%s: no inode", path)
	}
	return fileID{Device: stat.Dev, Inode: stat.Ino, Size: info.Size(), Time: info.ModTime().UTC()}, nil
}

// hash is the identity of what would be started.
func (c Config) hash(exe fileID, bootstrap []byte) (string, error) {
	b, err := json.Marshal(struct {
		Exe       fileID
		Args      []string
		Bootstrap string
	}{exe, c.args(), string(bootstrap)})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// readRecord returns a zero record when there is none that can be read.
func readRecord(dir string) record {
	var r record
	b, err := os.ReadFile(filepath.Join(dir, fileRecord))
	if err != nil || json.Unmarshal(b, &r) != nil {
		return record{}
	}
	return r
}

func (r record) write(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, fileRecord), append(b, '\n'))
}

// fits tells whether the proven process p is the recorded one, still runs the
// recorded binary, and was started from what we would start now.
func (r record) fits(p *process, hash string) bool {
	if r.PID != p.pid || r.StartTick != p.startTick || r.Hash != hash || r.Epoch == "" {
		return false
	}
	// The link leads to the running binary, also when its path was replaced.
	exe, err := identify(fmt.Sprintf("/proc/%d/exe", p.pid))
	return err == nil && exe.Device == r.Exe.Device && exe.Inode == r.Exe.Inode
}

// lastDeadline is until when an orphan may live, on two clocks: by the wall,
// and by the time since boot when it was written, so that a wall clock that
// steps back later does not lengthen it.
type lastDeadline struct {
	Wall time.Time     `json:"deadline"`
	Boot time.Duration `json:"sinceBoot"`
	// Unrecorded: see Life.
	Unrecorded bool `json:"unrecorded,omitempty"`
}

// readDeadline returns false when there is none, or none that can be read.
func readDeadline(dir string) (lastDeadline, bool) {
	var d lastDeadline
	b, err := os.ReadFile(filepath.Join(dir, fileDeadline))
	if err != nil || json.Unmarshal(b, &d) != nil || d.Wall.IsZero() {
		return lastDeadline{}, false
	}
	return d, true
}

func writeDeadline(dir string, life Life) error {
	path, wall := filepath.Join(dir, fileDeadline), life.Until
	if wall.IsZero() {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	left := min(time.Until(wall), 10*365*24*time.Hour) // no overflow
	b, err := json.Marshal(lastDeadline{Wall: wall.UTC(), Boot: sinceBoot() + left, Unrecorded: life.Unrecorded})
	if err != nil {
		return err
	}
	return writeFile(path, append(bytes.TrimSpace(b), '\n'))
}
