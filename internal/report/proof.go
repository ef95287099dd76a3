package report

// Proof is what the log's own verification said. It is made by the caller.
type Proof struct {
	Verified bool       `json:"verified"` // nothing was found
	Logs     []LogProof `json:"logs"`
	// Again are the commands that check this report.
	Again []string `json:"again"`
}

// LogProof is that of one log.
type LogProof struct {
	Log      string   `json:"log,omitempty"`
	Origin   string   `json:"origin"`
	Entries  uint64   `json:"entries"`
	FirstSeq uint64   `json:"firstSeq"`
	Size     uint64   `json:"size"`
	Root     string   `json:"root"`
	Keys     []string `json:"keys"`
	// Trusted: the keys came from elsewhere, not from beside the log.
	Trusted bool `json:"trusted"`
	// Witnessed is how many checkpoints that were kept elsewhere it was held against.
	Witnessed int    `json:"witnessed"`
	Unsigned  uint64 `json:"unsigned"` // entries that no checkpoint covers yet
	// Checkpoint is the newest, as it is signed.
	Checkpoint string   `json:"checkpoint"`
	Findings   []string `json:"findings"`
	Warnings   []string `json:"warnings"`
	// Range is the first and the last entry that this report is made of, with what
	// proves that they are in the tree of the checkpoint.
	Range []Inclusion `json:"range"`
}

// Inclusion proves that an entry is in the tree (RFC 6962 2.1.1), to whoever has the
// entry's line: the leaf is SHA-256(0x00 || line).
type Inclusion struct {
	Seq    uint64   `json:"seq"`
	Leaf   string   `json:"leaf"` // base64
	Size   uint64   `json:"size"`
	Hashes []string `json:"hashes"`
}

// Prove adds what the verification of the logs said, which is not for Build to do: it
// takes files.
func (r *Report) Prove(p Proof) {
	r.Proof = p
	list(&r.Proof.Logs)
	list(&r.Proof.Again)
	trusted, witnessed, findings, unsigned := len(p.Logs) > 0, len(p.Logs) > 0, 0, uint64(0)
	for i := range r.Proof.Logs {
		l := &r.Proof.Logs[i]
		list(&l.Findings)
		list(&l.Warnings)
		list(&l.Keys)
		list(&l.Range)
		trusted, witnessed = trusted && l.Trusted, witnessed && l.Witnessed > 0
		findings += len(l.Findings)
		unsigned += l.Unsigned
	}
	v := &r.Summary.Log
	switch {
	case !p.Verified:
		*v = Verdict{Bad, "NOT SOUND: " + number(findings, "finding", "findings") + ". See Proof."}
	case trusted && witnessed:
		*v = Verdict{Good, "Verified: nothing was edited, added, removed or reordered, by keys and checkpoints from elsewhere."}
	case trusted:
		*v = Verdict{Good, "Verified by keys from elsewhere. No checkpoint from elsewhere was given: a log that was cut back would not show."}
	default:
		*v = Verdict{Attention, "It fits together. The keys lay beside the log, and whoever could edit it could replace them: give --key and --checkpoint."}
	}
	if p.Verified && unsigned > 0 {
		v.Words += " " + number(unsigned, "entry is", "entries are") + " under no checkpoint yet."
	}
}

// Spans are the seq of the first and the last entry that the report is made of, by
// log.
func (r *Report) Spans() map[string][2]uint64 {
	out := map[string][2]uint64{}
	for i := range r.Proof.Logs {
		if x := r.Proof.Logs[i].Range; len(x) == 2 {
			out[r.Proof.Logs[i].Log] = [2]uint64{x[0].Seq, x[1].Seq}
		}
	}
	return out
}
