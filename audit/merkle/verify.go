package merkle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// VerifyOptions of Verify. The zero value takes the keys beside the log.
type VerifyOptions struct {
	// Keys are the verifier keys (vkeys) to trust, and with them those to which the
	// log shows a handover. Default: those of audit.pub, which whoever can edit the
	// log could replace, too.
	Keys []string
	// Checkpoints were kept elsewhere. The log must hold all that they cover.
	Checkpoints [][]byte
	// Progress, when not nil, is told how many entries of how many are done.
	Progress func(done, total uint64)

	// delay is how long the hash of an entry may come after the entry. Default 1 s.
	delay time.Duration
}

// Report is what Verify found. The log is sound when there are no findings.
type Report struct {
	// Entries were read, from FirstSeq on; Size is the size of the tree over all
	// time, Root its root in base64.
	Entries  uint64 `json:"entries"`
	FirstSeq uint64 `json:"firstSeq"`
	Size     uint64 `json:"size"`
	Root     string `json:"root"`
	Origin   string `json:"origin"`
	// First and Last are the times of the first and the last entry read.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Keys that were trusted, in the end.
	Keys []string `json:"keys"`
	// Pruned is how many entries were removed because of their age.
	Pruned uint64 `json:"pruned"`
	// Unsigned is how many entries came after the newest checkpoint.
	Unsigned uint64    `json:"unsigned"`
	Findings []Finding `json:"findings"`
}

// Finding is one thing that is not as it was written.
type Finding struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Seq     uint64 `json:"seq"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"`
}

const (
	maxFindings = 100

	remedyCopy    = "compare with a copy from elsewhere; keep both"
	remedyHashes  = "stop serve and remove the file: as long as no entries were removed because of their age, the next start derives it again"
	remedyKeys    = "give the verifier keys of this log; if these are, somebody else signed it"
	remedyRewrite = "whoever has the signing key cut or rewrote the log after that checkpoint, or it is of another log: compare with a copy from elsewhere; keep both"
)

// Verify reads all of the log in dir, which may be a copy or have an open Log,
// in bounded memory, and compares it with its hashes, its checkpoint and the
// given checkpoints. The error is about what could not be looked at; what is
// wrong with the log is in the report.
func Verify(ctx context.Context, dir string, o VerifyOptions) (*Report, error) {
	if o.delay == 0 {
		o.delay = time.Second
	}
	for try := 1; ; try++ {
		v := &verification{ctx: ctx, dir: dir, opts: o, report: &Report{}}
		if err := v.run(); err != nil {
			return nil, fmt.Errorf("verify the audit log: %w", err)
		}
		// What is missing may have been removed because of its age meanwhile, by an
		// entry that came after what was verified.
		size, err := signedSize(dir)
		if err != nil || !v.unexplained || v.own == nil || size <= v.own.head.size || try == 4 {
			return v.report, nil
		}
	}
}

// verification is one run of Verify.
type verification struct {
	ctx    context.Context
	dir    string
	opts   VerifyOptions
	report *Report
	more   int // findings that are not kept

	trusted []string
	pub     []string // of audit.pub
	named   []string // in the log
	own     *claim   // the log's checkpoint; nil: there is none to be read
	claims  []*claim // all, by size
	claimed int      // of these, how many the tree has passed

	tree   frontier  // of the entries as they are
	alt    *frontier // of the stored hashes; nil: the same
	before frontier  // tree, an entry ago
	blind  bool      // an entry is missing, and so is its hash
	next   uint64
	vkey   string // that signs here, as the log says
	prev   string // the segment before
	hashes hashReader
	stored []byte
	nohash bool  // hashes end before here
	doubts []int // findings that are about an entry or about its hash

	removed uint64 // entries below were removed because of their age
	missing []missing
	// unexplained: no entry says why some are missing.
	unexplained bool
	lastName    string // where the log ended when this began
	lastSize    int64
}

// missing is a run of entries that are not there.
type missing struct {
	from, to uint64 // to is there
	file     string
	line     int
}

func (v *verification) wrong(file string, line int, seq uint64, remedy, format string, args ...any) {
	if len(v.report.Findings) >= maxFindings {
		v.more++
		return
	}
	if file != "" {
		file = filepath.Join(v.dir, file)
	}
	v.report.Findings = append(v.report.Findings, Finding{file, line, seq, fmt.Sprintf(format, args...), remedy})
}

func (v *verification) run() error {
	if err := v.readKeys(); err != nil {
		return err
	}
	// The checkpoint first: what it covers is there already.
	if err := v.readClaims(); err != nil {
		return err
	}
	segs, err := segments(v.dir)
	if err != nil {
		return err
	}
	if v.own == nil && len(segs) == 0 && v.pub == nil {
		return fmt.Errorf("%s holds no audit log", v.dir)
	}
	f, err := openRead(filepath.Join(v.dir, hashesName))
	switch {
	case err == nil:
		defer f.Close()
		v.hashes.r = f
	case errors.Is(err, os.ErrNotExist):
		v.nohash = true
		v.wrong(hashesName, 0, 0, remedyHashes, "the file is missing")
	default:
		return err
	}
	if err := v.walk(segs); err != nil {
		return err
	}
	v.conclude()
	return nil
}

func (v *verification) readKeys() error {
	for _, k := range v.opts.Keys {
		if _, err := parseVkey(k); err != nil {
			return err
		}
	}
	v.trusted = slices.Clone(v.opts.Keys)
	b, err := readSmall(filepath.Join(v.dir, pubName), maxKeyFile)
	var corrupt *CorruptError
	switch {
	case errors.Is(err, os.ErrNotExist):
		if len(v.trusted) == 0 {
			v.wrong(pubName, 0, 0, "give the verifier keys of this log", "the file is missing, so no signature can be checked")
		}
		return nil
	case err != nil && !errors.As(err, &corrupt):
		return err
	case err == nil:
		v.pub, err = parsePub(b)
	}
	if err != nil {
		v.wrong(pubName, 0, 0, remedyCopy, "%s", reason(err))
		v.pub = []string{}
	}
	if len(v.trusted) == 0 {
		v.trusted = slices.Clone(v.pub)
	}
	return nil
}

// reason is an error without the place, which a finding has.
func reason(err error) string {
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		return corrupt.Reason
	}
	return err.Error()
}

// conclude judges what was read.
func (v *verification) conclude() {
	r := v.report
	r.Size, r.Keys = v.next, v.trusted
	if !v.blind {
		r.Root = v.tree.root().String()
	}
	if r.FirstSeq > 0 && r.FirstSeq <= v.removed {
		r.Pruned = r.FirstSeq
	}
	for _, m := range v.missing {
		if m.to > v.removed {
			v.unexplained = true
			v.wrong(m.file, m.line, m.from, remedyCopy, "%s not there, before this one", span(m.from, m.to-1))
		}
	}
	if len(v.pub) > 0 {
		for _, k := range v.named {
			if !slices.Contains(v.pub, k) {
				v.wrong(pubName, 0, 0, remedyCopy, "the key %s, with which the log says it is signed, is not in it", k)
			}
		}
	}
	v.judge()
	if v.more > 0 {
		r.Findings[maxFindings-1] = Finding{File: v.dir, Problem: fmt.Sprintf("%d more findings are not shown", v.more+1), Remedy: remedyCopy}
	}
}

// span of entries: "entry 9 is", "entries 9 to 11 are".
func span(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("entry %d is", from)
	}
	return fmt.Sprintf("entries %d to %d are", from, to)
}
