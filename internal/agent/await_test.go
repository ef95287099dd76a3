package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
)

func TestAnAgentWaitsForItsLogAndNotForEver(t *testing.T) {
	for name, c := range map[string]struct{ takes, want time.Duration }{
		"a log that opens at once":           {0, 0},
		"a log that is read for 10 s":        {10 * time.Second, 10 * time.Second},
		"a log that is read for ten minutes": {10 * time.Minute, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				r, err := recorder.New(func() (recorder.Ledger, []merkle.Entry, error) {
					time.Sleep(c.takes)
					return nil, nil, errors.New("damaged")
				}, nil, recorder.Options{Log: slog.New(slog.DiscardHandler), Now: time.Now})
				if err != nil {
					t.Fatal(err)
				}
				(&agent{recorder: r}).awaitLog(context.Background())
				if took := time.Since(begin); took < c.want || took > c.want+time.Second {
					t.Errorf("it waited %v, want %v", took, c.want)
				}
				if r.Problem() == "" {
					t.Error("nothing is wrong with a log that is not open")
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
