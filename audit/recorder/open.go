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
		recent, err := recentEntries(dir, ledger.Size(), o.Now())
		if err != nil {
			return nil, nil, errors.Join(err, ledger.Close())
		}
		return ledger, recent, nil
	}
}

// Told is the same Opener, and tells f of the log each time it was opened.
func (o Opener) Told(f func(*merkle.Log)) Opener {
	return func() (Ledger, []merkle.Entry, error) {
		ledger, recent, err := o()
		if l, ok := ledger.(*merkle.Log); ok {
			f(l)
		}
		return ledger, recent, err
	}
}

// recentEntries are those that a row of the gRPC access log may still name: such
// rows do not survive this process, and Envoy keeps one for a tenth of a second, so
// only those of the last moment can come. Of a flood most are not read at all: a
// start waits for this. size is that of the log.
func recentEntries(dir string, size uint64, now time.Time) ([]merkle.Entry, error) {
	const recent, most = 30 * time.Second, 50_000
	filter := merkle.Filter{Since: now.Add(-recent)}
	if size > most {
		filter.From = size - most
	}
	var out []merkle.Entry
	err := merkle.Read(context.Background(), dir, filter, func(e merkle.Entry) error {
		out = append(out, e)
		return nil
	})
	return out, err
}
