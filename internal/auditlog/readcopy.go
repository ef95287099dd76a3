package auditlog

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// held is what of the log a copy has already.
type held struct {
	// origin of the log that it is one of; "": it is empty.
	origin string
	// segment is the newest that it has, by the seq of its first entry, and size how
	// many bytes of it.
	segment uint64
	size    int64
	hashes  int64
}

func parseHeld(v url.Values) (h held, err error) {
	for name, values := range v {
		switch name {
		case "origin":
			h.origin = values[0]
		case "segment":
			h.segment, err = strconv.ParseUint(values[0], 10, 63)
		case "size":
			h.size, err = strconv.ParseInt(values[0], 10, 64)
		case "hashes":
			h.hashes, err = strconv.ParseInt(values[0], 10, 64)
		default:
			err = errors.New("there is no such parameter")
		}
		if err != nil {
			return h, fmt.Errorf("%.40s=%.80s: %w", name, values[0], err)
		}
	}
	if h.size < 0 || h.hashes < 0 {
		return h, errors.New("a size below 0")
	}
	return h, nil
}

// piece of a file of the log, from where the copy has it.
type piece struct {
	name     string
	from, to int64
}

// copy hands out, as a tar, what a copy lacks to be the tree of the newest
// checkpoint: no byte of it changes any more, so that the next time the rest is
// enough. The checkpoint comes last. Files that a copy has begun are continued:
// the record breakglass.offset of the header says where.
func (s *Reading) copy(v url.Values) (answer, error) {
	h, err := parseHeld(v)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	return func(_ context.Context, w *reader) error {
		end, err := signed(s.Dir)
		if err != nil {
			return err
		}
		parts, err := s.lacks(h, end)
		if err != nil {
			return err
		}
		keys, err := os.ReadFile(filepath.Join(s.Dir, "audit.pub"))
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/x-tar")
		if err := send(w, s.Dir, parts, keys, end.note); err != nil {
			s.Log.Warn("a copy of the audit log broke off", "error", err)
			panic(http.ErrAbortHandler) // its reader must not take it for whole
		}
		return nil
	}, nil
}

// lacks are the parts that the copy does not have, the oldest first.
func (s *Reading) lacks(h held, end head) ([]piece, error) {
	if h.origin != "" && h.origin != end.origin {
		return nil, refuse(http.StatusConflict, "the copy is one of the log %.100s, and this is %s: copy into another directory", h.origin, end.origin)
	}
	firsts, err := merkle.Segments(s.Dir)
	if err != nil {
		return nil, err
	}
	if h.origin != "" && !slices.Contains(firsts, h.segment) {
		return nil, refuse(http.StatusGone, "the segment that the copy ends in, which begins with entry %d, is not kept any more: copy into another directory", h.segment)
	}
	var out []piece
	for i, first := range firsts {
		if first < h.segment || first >= end.size {
			continue
		}
		p := piece{name: merkle.SegmentFile(first)}
		if h.origin != "" && first == h.segment {
			p.from = h.size
		}
		if p.to, err = sizeOf(filepath.Join(s.Dir, p.name), i == len(firsts)-1 || firsts[i+1] >= end.size, end.size-first); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	// After the entries: a copy that breaks off has none of what it does not have.
	out = append(out, piece{"hashes", h.hashes, tlog.StoredHashCount(int64(end.size)) * tlog.HashSize})
	for _, p := range out {
		if p.from > p.to {
			return nil, refuse(http.StatusConflict, "the copy has %d bytes of %s, and the log has %d that are signed: it is no copy of this log, or the log was cut back; copy into another directory, and compare", p.from, p.name, p.to)
		}
	}
	return out, nil
}

// sizeOf a segment; of one that may go on, up to the end of its n-th line.
func sizeOf(path string, goesOn bool, n uint64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if !goesOn {
		st, err := f.Stat()
		if err != nil {
			return 0, err
		}
		return st.Size(), nil
	}
	var size int64
	for r := bufio.NewReaderSize(f, 256<<10); n > 0; {
		line, err := r.ReadSlice('\n')
		size += int64(len(line))
		switch {
		case err == nil:
			n--
		case !errors.Is(err, bufio.ErrBufferFull):
			return 0, fmt.Errorf("%s has %d lines less than its checkpoint says: %w", path, n, err)
		}
	}
	return size, nil
}

func send(to *reader, dir string, parts []piece, keys, checkpoint []byte) error {
	w := tar.NewWriter(to)
	for _, p := range parts {
		if p.from == p.to {
			continue
		}
		if err := sendPiece(to, w, dir, p); err != nil {
			return err
		}
	}
	for _, file := range []struct {
		name string
		text []byte
	}{{"audit.pub", keys}, {"checkpoint", checkpoint}} {
		if err := w.WriteHeader(&tar.Header{Name: file.name, Mode: 0o600, Size: int64(len(file.text))}); err != nil {
			return err
		}
		if _, err := w.Write(file.text); err != nil {
			return err
		}
	}
	return w.Close()
}

func sendPiece(to *reader, w *tar.Writer, dir string, p piece) error {
	f, err := os.Open(filepath.Join(dir, p.name))
	if err != nil {
		return err
	}
	defer f.Close()
	h := &tar.Header{Name: p.name, Mode: 0o600, Size: p.to - p.from, PAXRecords: map[string]string{offsetRecord: strconv.FormatInt(p.from, 10)}}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	// A piece at a time: in between he may lose the right to it.
	const chunk = 4 << 20
	for at := p.from; at < p.to; at += chunk {
		if why := to.ended(); why != "" {
			return errors.New(why)
		}
		if _, err := io.Copy(w, io.NewSectionReader(f, at, min(chunk, p.to-at))); err != nil {
			return err
		}
	}
	return nil
}

// offsetRecord of a file in the tar: where the copy goes on.
const offsetRecord = "BREAKGLASS.offset"
