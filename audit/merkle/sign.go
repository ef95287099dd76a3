package merkle

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	// signEvery is the least time between two checkpoints: each costs two syncs of
	// a disk on which appends wait.
	signEvery = 100 * time.Millisecond
	signRetry = time.Second
)

// sign signs what counts, and keeps and hands out the checkpoint.
func (l *Log) sign() error {
	l.signMu.Lock()
	defer l.signMu.Unlock()
	l.mu.Lock()
	tree, vkey, signed := l.tip.tree.clone(), l.tip.vkey, l.note
	l.mu.Unlock()
	if signed == nil || l.signed != tree.n {
		// Two keys while they change; the new one only where the log names it.
		var by []note.Signer
		for _, k := range l.keys {
			by = append(by, k)
			if k.vkey == vkey {
				break
			}
		}
		head := treeHead{origin: l.origin, size: tree.n, root: tree.root()}
		b, err := note.Sign(&note.Note{Text: head.text()}, by...)
		if err == nil {
			err = l.replaceFile(checkpointName, b)
		}
		if err != nil {
			err = fmt.Errorf("write the checkpoint of the audit log: %w", err)
		}
		l.mu.Lock()
		l.unsigned = err
		if err == nil {
			l.note = b
		}
		l.mu.Unlock()
		if err != nil {
			return err
		}
		l.signed, signed = tree.n, b
	}
	for _, s := range l.sinks {
		s.offer(slices.Clone(signed))
	}
	return nil
}

// signLoop signs after appends, one at a time and of what is there by then.
func (l *Log) signLoop() {
	failing := false
	for {
		select {
		case <-l.signWake:
		case <-l.written:
			return
		}
		err := l.sign()
		if err != nil && !failing {
			l.opts.Log.Error("audit entries cannot be signed", "dir", l.dir, "error", err)
		}
		if err == nil && failing {
			l.opts.Log.Info("audit entries are signed again", "dir", l.dir)
		}
		pause := signEvery
		if failing = err != nil; failing {
			pause = signRetry
			wake(l.signWake)
		}
		select {
		case <-time.After(pause):
		case <-l.written:
			return
		}
	}
}
