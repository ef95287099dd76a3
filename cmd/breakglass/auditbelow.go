package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// listBelow shows the entries of several logs, in the order of their times: those of
// the controllers and of the pods of a cluster, each of which has one of its own.
func (o *auditListOptions) listBelow(cmd *cobra.Command, root string) error {
	if o.limit != 0 {
		return usagef("--limit goes with one log: leave it out, or use --since")
	}
	if err := checkOutput(o.output, "table", "json"); err != nil {
		return err
	}
	f, err := o.filter(time.Now())
	if err != nil {
		return err
	}
	dirs, err := logsBelow(root)
	if err != nil {
		return err
	}
	if len(dirs) == 0 {
		return usagef("there is no audit log below %s: name a directory that holds the logs of several writers", shown(root))
	}
	return mergeLogs(cmd.Context(), root, dirs, f, mergedWriter(cmd.OutOrStdout(), o.output))
}

// mergedWriter writes entries with the log that each is in.
func mergedWriter(to io.Writer, form string) func(log string, e merkle.Entry) error {
	if form == "json" {
		return func(log string, e merkle.Entry) error {
			b, err := json.Marshal(logEntry{log, e})
			if err != nil {
				return err
			}
			if isTerminal(to) {
				b = escapeJSON(b)
			}
			_, err = to.Write(append(b, '\n'))
			return err
		}
	}
	l := &lines{out: to, widths: []int{28, 6, 27, 18, 24, 28, 12, 10}}
	return func(log string, e merkle.Entry) error {
		if err := l.heading(append([]string{"LOG"}, entryColumns...)...); err != nil {
			return err
		}
		return l.row(append([]string{shown(log)}, entryCells(e)...)...)
	}
}

// logEntry is an entry, and the log that it is in.
type logEntry struct {
	Log string `json:"log"`
	merkle.Entry
}

// logsBelow are the directories below root that hold a log, relative to it.
func logsBelow(root string) (dirs []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		is, err := isLog(path)
		if err != nil || !is {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		dirs = append(dirs, rel)
		return fs.SkipDir
	})
	if err != nil {
		return nil, fmt.Errorf("look for audit logs: %w: run this as their owner, or on a copy that you may read", err)
	}
	return dirs, nil
}

// mergeLogs calls write for the entries of all logs, the oldest first. A log that cannot
// be read to its end keeps the others from nothing; it is an error in the end.
func mergeLogs(ctx context.Context, root string, dirs []string, f merkle.Filter, write func(string, merkle.Entry) error) error {
	type head struct {
		log   string
		entry merkle.Entry
		next  func() (merkle.Entry, error, bool)
	}
	var heads []*head
	var errs []error
	advance := func(h *head) bool {
		e, err, more := h.next()
		if err != nil {
			errs = append(errs, fmt.Errorf("log %s: %w", shown(h.log), readErr(err)))
			return false
		}
		h.entry = e
		return more
	}
	for _, log := range dirs {
		next, stop := iter.Pull2(entriesOf(ctx, filepath.Join(root, log), f))
		defer stop()
		if h := (&head{log: log, next: next}); advance(h) {
			heads = append(heads, h)
		}
	}
	for len(heads) > 0 {
		oldest := 0
		for i, h := range heads {
			if h.entry.Time.Before(heads[oldest].entry.Time) {
				oldest = i
			}
		}
		h := heads[oldest]
		if err := write(h.log, h.entry); err != nil {
			return err
		}
		if !advance(h) {
			heads = append(heads[:oldest], heads[oldest+1:]...)
		}
	}
	return errors.Join(errs...)
}

// entriesOf is all that is in a log; the last may be an error.
func entriesOf(ctx context.Context, dir string, f merkle.Filter) iter.Seq2[merkle.Entry, error] {
	return func(yield func(merkle.Entry, error) bool) {
		err := merkle.Read(ctx, dir, f, func(e merkle.Entry) error {
			if !yield(e, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(merkle.Entry{}, err)
		}
	}
}
