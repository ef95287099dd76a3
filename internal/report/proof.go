package report

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
