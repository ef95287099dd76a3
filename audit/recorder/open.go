package recorder

import (
	"context"
	"errors"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// OpenLog is the Opener of the log in dir.
func OpenLog(dir string, o merkle.Options) Opener {
	return func() (Ledger, []merkle.Entry, error) {
		ledger, err := merkle.Open(dir, o)
		if err != nil {
			return nil, nil, err
		}
		recent, err := recentEntries(dir, o.Now())
		if err != nil {
			return nil, nil, errors.Join(err, ledger.Close())
		}
		return ledger, recent, nil
	}
}

// recentEntries are those that a row of the gRPC access log may still name: such
// rows do not survive this process, so only those of the last moment can come.
func recentEntries(dir string, now time.Time) ([]merkle.Entry, error) {
	const recent, most = 30 * time.Second, 200_000
	var out []merkle.Entry
	err := merkle.Read(context.Background(), dir, merkle.Filter{Since: now.Add(-recent)}, func(e merkle.Entry) error {
		if out = append(out, e); len(out) > most {
			out = out[most/2:]
		}
		return nil
	})
	return out, err
}
