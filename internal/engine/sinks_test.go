package engine

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAlarmIsWaitedForUntilTheServiceHasItAndNotLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var next atomic.Uint64
		next.Store(7)
		changed := make(chan struct{})
		upTo := func() (uint64, <-chan struct{}) { return next.Load(), changed }
		took := func(seq uint64, most time.Duration) (bool, time.Duration) {
			began := time.Now()
			return confirmed(seq, most, upTo), time.Since(began)
		}
		if ok, d := took(6, elsewhere); !ok || d != 0 {
			t.Errorf("one that it has: %v after %v", ok, d)
		}
		if ok, d := took(6, -time.Hour); !ok || d != 0 {
			t.Errorf("an old one that it has: %v after %v", ok, d)
		}
		if ok, d := took(7, elsewhere); ok || d != elsewhere {
			t.Errorf("one that it has not: %v after %v", ok, d)
		}
		if ok, d := took(7, -time.Hour); ok || d != 0 {
			t.Errorf("an old one that it has not: %v after %v", ok, d)
		}
		time.AfterFunc(100*time.Millisecond, func() {
			next.Store(8)
			close(changed)
		})
		if ok, d := took(7, elsewhere); !ok || d != 100*time.Millisecond {
			t.Errorf("one that it gets: %v after %v", ok, d)
		}
	})
}
