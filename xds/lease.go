package xds

import (
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

const (
	// lateAck is the time to an ACK above which a lease is sent again. Envoy
	// starts the timer when it processes the response: an ACK that took long
	// means a main thread that was busy, and a lease that ends as much too late.
	lateAck = 5 * time.Millisecond
	// maxLate bounds how often a lease is sent again for that reason.
	maxLate = 5
)

// lease is the state of a resource that Envoy drops by itself. The zero value is
// right for one that Envoy reports on reconnect: its deadline is not known, so
// it is sent again.
type lease struct {
	expires time.Time // as last sent, zero: none
	ttlSeq  uint64    // the response that sent it
	stale   bool      // send it again although expires did not change
	late    int       // how often it was sent again for a late ACK
	lateFor time.Time // the expires that late counts for
}

// ended reports whether the lease r is over: at Expires it is.
func (s *stream) ended(r *snapshot.Resource) bool {
	return !r.Expires.IsZero() && !s.now.Before(r.Expires)
}

// decideLease is about a resource that was sent in the version of r.
func (l *lease) decideLease(r *snapshot.Resource) action {
	if l.stale || !l.expires.Equal(r.Expires) {
		return refresh
	}
	return nothing
}

// started takes in that response seq was acknowledged after took, and reports
// whether the lease has to be sent again.
func (l *lease) started(seq uint64, took time.Duration) bool {
	if l.ttlSeq != seq || l.expires.IsZero() {
		return false
	}
	if !l.lateFor.Equal(l.expires) {
		l.late, l.lateFor = 0, l.expires
	}
	if took <= lateAck || l.late >= maxLate {
		return false
	}
	l.late++
	l.stale = true
	return true
}
