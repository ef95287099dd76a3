package client

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Copied is what a copy has now.
type Copied struct {
	Dir string `json:"dir"`
	// Origin of the log, and Entries that its newest checkpoint covers.
	Origin  string `json:"origin"`
	Entries uint64 `json:"entries"`
	// Bytes that came this time.
	Bytes int64 `json:"bytes"`
}

// CopyLog brings the copy of a log in dir, which may be empty or not be there, up to
// date: in the end it is the tree of the newest checkpoint of the cluster's log, as
// breakglass audit verify takes it. What it has already does not come again. That the
// copy is sound only verify says. progress, if it is not nil, is told how many bytes
// have come.
func (a *AuditLog) CopyLog(ctx context.Context, dir string, progress func(bytes int64)) (*Copied, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	have, err := heldBy(dir)
	if err != nil {
		return nil, err
	}
	body, err := a.get(ctx, "/v1/copy", have)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	c := &copying{dir: dir, progress: progress}
	for in := tar.NewReader(body); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = c.take(h, in)
		}
		var disk *os.PathError
		switch {
		case errors.As(err, &disk):
			return nil, err
		case err != nil:
			return nil, a.brokeOff(ctx, err)
		}
	}
	return c.finish()
}

// heldBy is what a copy has of its log.
func heldBy(dir string) (url.Values, error) {
	v := url.Values{}
	for _, name := range []string{"audit.key", "audit.key.new"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil, fmt.Errorf("%s has %s: it is a log that is written to, and no copy of one: name another directory", dir, name)
		}
	}
	note, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if errors.Is(err, os.ErrNotExist) {
		return v, startAnew(dir)
	}
	if err != nil {
		return nil, err
	}
	firsts, err := merkle.Segments(dir)
	if err != nil || len(firsts) == 0 {
		return nil, errors.Join(err, fmt.Errorf("%s has a checkpoint and no segment-*.jsonl: name an empty directory", dir))
	}
	last := firsts[len(firsts)-1]
	origin, _, _ := strings.Cut(string(note), "\n")
	v.Set("origin", origin)
	v.Set("segment", strconv.FormatUint(last, 10))
	for name, file := range map[string]string{"size": merkle.SegmentFile(last), "hashes": "hashes"} {
		st, err := os.Lstat(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		v.Set(name, strconv.FormatInt(st.Size(), 10))
	}
	return v, nil
}

// startAnew removes what of a first copy has come that was not finished.
func startAnew(dir string) error {
	firsts, err := merkle.Segments(dir)
	if err != nil {
		return err
	}
	names := []string{"hashes", "audit.pub"}
	for _, first := range firsts {
		names = append(names, merkle.SegmentFile(first))
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copying is one copy under way.
type copying struct {
	dir              string
	progress         func(int64)
	bytes            int64
	keys, checkpoint []byte
}

// maxKept of the files that are replaced as a whole.
const maxKept = 1 << 20

// take a file, or the rest of one. The checkpoint is kept for the end, so that a copy
// never says that it has what has not come.
func (c *copying) take(h *tar.Header, from io.Reader) error {
	switch {
	case h.Name == "audit.pub" || h.Name == "checkpoint":
		text, err := io.ReadAll(io.LimitReader(from, maxKept))
		if c.bytes += int64(len(text)); h.Name == "checkpoint" {
			c.checkpoint = text
		} else {
			c.keys = text
		}
		return err
	case h.Name != "hashes" && !isSegment(h.Name):
		return fmt.Errorf("a file %.100q, which is none of a log", h.Name)
	}
	at, err := strconv.ParseInt(h.PAXRecords["BREAKGLASS.offset"], 10, 64)
	if err != nil {
		return fmt.Errorf("%s: where it goes on: %w", h.Name, err)
	}
	f, err := os.OpenFile(filepath.Join(c.dir, h.Name), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != at {
		return &os.PathError{Op: "continue", Path: f.Name(), Err: fmt.Errorf("it has %d bytes, and %d were asked for: does somebody else copy into this directory?", st.Size(), at)}
	}
	if _, err := io.Copy(&told{io.NewOffsetWriter(f, at), c}, from); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func isSegment(name string) bool {
	number, _ := strings.CutPrefix(name, "segment-")
	first, err := strconv.ParseUint(strings.TrimSuffix(number, ".jsonl"), 10, 63)
	return err == nil && name == merkle.SegmentFile(first)
}

type told struct {
	io.Writer
	c *copying
}

func (t *told) Write(b []byte) (int, error) {
	n, err := t.Writer.Write(b)
	if t.c.bytes += int64(n); t.c.progress != nil {
		t.c.progress(t.c.bytes)
	}
	return n, err
}

// finish puts the keys and, last, the checkpoint in place.
func (c *copying) finish() (*Copied, error) {
	lines := bytes.SplitN(c.checkpoint, []byte("\n"), 3)
	if len(lines) < 3 || len(c.keys) == 0 {
		return nil, errors.New("the copy has come without a checkpoint: try again")
	}
	size, err := strconv.ParseUint(string(lines[1]), 10, 63)
	if err != nil {
		return nil, fmt.Errorf("the copy has come with a checkpoint that is none: %w", err)
	}
	if err := errors.Join(
		durable.SyncDir(c.dir),
		durable.Replace(filepath.Join(c.dir, "audit.pub"), c.keys),
		durable.Replace(filepath.Join(c.dir, "checkpoint"), c.checkpoint)); err != nil {
		return nil, err
	}
	return &Copied{Dir: c.dir, Origin: string(lines[0]), Entries: size, Bytes: c.bytes}, nil
}

// CopyLog of the cluster, whose release is in a namespace, into dir.
func CopyLog(ctx context.Context, c *Cluster, namespace, dir string, progress func(bytes int64)) (*Copied, error) {
	log, err := c.AuditLog(ctx, namespace)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	return log.CopyLog(ctx, dir, progress)
}
