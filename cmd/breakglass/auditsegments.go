package main

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// place is the file and the line of an entry.
func place(dir string, seq uint64) (file string, line uint64) {
	firsts, err := merkle.Segments(dir)
	if err != nil {
		return "", 0
	}
	for _, first := range slices.Backward(firsts) {
		if first <= seq {
			return filepath.Join(dir, merkle.SegmentFile(first)), seq - first + 1
		}
	}
	return "", 0
}

var errEnough = errors.New("enough was read")

// readTo reads the entries from f.From up to, not including, end. It takes no
// times: an entry that they leave out would not end it.
func readTo(ctx context.Context, dir string, f merkle.Filter, end uint64, fn func(merkle.Entry) error) error {
	match := f.Match
	f.Match = func(e *merkle.Entry) bool { return e.Seq >= end || match == nil || match(e) }
	err := merkle.Read(ctx, dir, f, func(e merkle.Entry) error {
		if e.Seq >= end {
			return errEnough
		}
		return fn(e)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// readLast returns the newest n entries that f takes, the oldest first, and the
// seq after the last entry that it looked at. It reads no more segments than it
// must, and with n = 0 one. With an error it returns what was read before.
func readLast(ctx context.Context, dir string, f merkle.Filter, n int) (out []merkle.Entry, next uint64, err error) {
	firsts, err := merkle.Segments(dir)
	if err != nil {
		return nil, 0, err
	}
	part := merkle.Filter{Match: func(e *merkle.Entry) bool {
		next = max(next, e.Seq+1)
		return inTime(f, e.Time) && (f.Match == nil || f.Match(e))
	}}
	end := uint64(math.MaxUint64)
	for _, first := range slices.Backward(firsts) {
		began, known := segmentTime(ctx, dir, first)
		if known && !f.Until.IsZero() && began.After(f.Until.Add(timeMargin)) {
			next, end = max(next, first), first
			continue
		}
		part.From = first
		got, err := keepLast(ctx, dir, part, end, n-len(out))
		if err == nil || end == math.MaxUint64 {
			out = append(got, out...) // else entries in between would be left out
		}
		next = max(next, first)
		if err != nil || len(out) >= n || known && began.Before(f.Since.Add(-timeMargin)) {
			return out, next, err
		}
		end = first
	}
	return out, next, nil
}

func inTime(f merkle.Filter, t time.Time) bool {
	return (f.Since.IsZero() || !t.Before(f.Since)) && (f.Until.IsZero() || t.Before(f.Until))
}

// timeMargin is how far the clock may have been set back while the log was
// written, for an entry not to be missed because of it. merkle has the same.
const timeMargin = time.Hour

// segmentTime is when a segment was begun, if its first entry can be read.
func segmentTime(ctx context.Context, dir string, first uint64) (began time.Time, known bool) {
	err := readTo(ctx, dir, merkle.Filter{From: first}, first+1, func(e merkle.Entry) error {
		began, known = e.Time, e.Seq == first
		return nil
	})
	return began, known && err == nil
}

func keepLast(ctx context.Context, dir string, f merkle.Filter, end uint64, n int) ([]merkle.Entry, error) {
	var kept []merkle.Entry
	err := readTo(ctx, dir, f, end, func(e merkle.Entry) error {
		if kept = append(kept, e); len(kept)-n > n {
			kept = slices.Delete(kept, 0, len(kept)-n)
		}
		return nil
	})
	return kept[max(0, len(kept)-n):], err
}
