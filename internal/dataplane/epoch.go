package dataplane

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
)

// envEpoch is where Envoy finds its epoch, for %ENVIRONMENT(ENVOY_EPOCH)% in an
// access log. An epoch is one life of one process: what Envoy counts begins at 0
// with it.
const envEpoch = "ENVOY_EPOCH"

func newEpoch() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails, and ends the process if it would
	return hex.EncodeToString(b[:])
}

// epochOf is the epoch of a process that was found alive. A control plane may
// have died before it recorded the process; the process itself knows as well.
func (r record) epochOf(p *process) string {
	if r.PID == p.pid && r.StartTick == p.startTick {
		return r.Epoch
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
	if err != nil {
		return ""
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if epoch, found := bytes.CutPrefix(v, []byte(envEpoch+"=")); found {
			return string(epoch)
		}
	}
	return ""
}

// exited tells the owner, once, that a process is gone.
func (e *Envoy) exited(p *process) {
	if p.told {
		return
	}
	p.told = true
	e.exit(p.epoch, p.clean())
}

func (e *Envoy) exit(epoch string, clean bool) {
	if e.cfg.OnExit != nil && epoch != "" {
		e.cfg.OnExit(epoch, clean)
	}
}
