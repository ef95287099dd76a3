package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
)

// readCopy reads the files of --against, which are one copy; nil: there is none.
func readCopy(dir string, paths []string) (*sink.Copy, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	c, err := sink.NewCopy(dir)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("--against: %w", err)
		}
		err = c.Read(path, f)
		f.Close()
		if err != nil {
			return nil, usagef("--against: %w", err)
		}
	}
	return c, nil
}

// checkpointsOf says that those of the copy follow the others.
func checkpointsOf(c *sink.Copy, paths []string, before int) []checkpointFile {
	n := len(c.Checkpoints())
	if n == 0 {
		return nil
	}
	return []checkpointFile{{strings.Join(paths, ", "), before + 1, before + n}}
}

func (r *verified) takeCopy(c *sink.CopyReport) {
	r.Copy = c
	r.Findings = append(r.Findings, c.Findings...)
	switch {
	case c.Checkpoints == 0:
		r.Warnings = append(r.Warnings, "the copy has no checkpoint: that it is whole cannot be seen, and it convicts nobody")
	case c.Vouched == 0 && c.Missing > 0:
		r.Warnings = append(r.Warnings, fmt.Sprintf("the copy is a part: %s not in it, so that it is whole cannot be seen from the copy alone", count(int(c.Missing), "entry")))
	}
}

func copyText(c *sink.CopyReport) string {
	if c.Entries == 0 {
		return "no entries"
	}
	text := fmt.Sprintf("%s, from %d to %d", count(int(c.Entries), "entry"), c.First, c.Last)
	if c.Vouched > 0 {
		text += fmt.Sprintf("; by itself whole and as signed up to a size of %d", c.Vouched)
	}
	return text
}
