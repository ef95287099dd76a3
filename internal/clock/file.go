package clock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// mark is what the file holds.
type mark struct {
	Mark    time.Time
	Boot    string
	Elapsed time.Duration
}

type markFile struct {
	V       int           `json:"v"`
	Mark    time.Time     `json:"mark"`
	Boot    string        `json:"boot"`
	Elapsed time.Duration `json:"elapsed,string"`
	Sum     string        `json:"sum"`
}

// resume is the least time that a process which begins now may tell.
func (m mark) resume(boot string, elapsed time.Duration, wall time.Time) time.Time {
	if boot != "" && boot == m.Boot && elapsed >= m.Elapsed {
		return m.Mark.Add(elapsed - m.Elapsed)
	}
	if wall.Before(m.Mark) {
		return m.Mark.Add(persistEvery)
	}
	return wall
}

// encode returns the one form of a mark, with its sum.
func (m mark) encode() ([]byte, error) {
	f := markFile{V: 1, Mark: m.Mark.UTC().Round(0), Boot: m.Boot, Elapsed: m.Elapsed}
	b, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	f.Sum = fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	if b, err = json.Marshal(f); err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

func readMark(path string) (mark, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return mark{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return mark{}, err
	}
	return decodeMark(b)
}

func decodeMark(b []byte) (mark, error) {
	if len(b) == 0 {
		return mark{}, errors.New("it is empty")
	}
	var f markFile
	if err := json.Unmarshal(b, &f); err != nil {
		return mark{}, fmt.Errorf("it is corrupt: %w", err)
	}
	if f.V != 1 {
		return mark{}, fmt.Errorf("it is of version %d and this breakglass reads version 1", f.V)
	}
	m := mark{Mark: f.Mark, Boot: f.Boot, Elapsed: f.Elapsed}
	again, err := m.encode()
	if err != nil {
		return mark{}, fmt.Errorf("it is corrupt: %w", err)
	}
	if !bytes.Equal(again, b) {
		return mark{}, errors.New("it is corrupt: it is not as it was written")
	}
	return m, nil
}

// writeMark replaces the file: after a crash it is the old one or the new one.
func writeMark(path string, m mark) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
