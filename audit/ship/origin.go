package ship

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

const (
	logCursor    = "log/"
	sourceCursor = "source/"
	timeLayout   = "2006-01-02T15:04:05.000000Z"
)

// Origin says of an entry in the log of a cluster where it comes from: the log, as
// "ORIGIN HASH", and its seq and time there. It is false for entries of the service's
// own.
func Origin(e merkle.Entry) (log string, seq uint64, at time.Time, ok bool) {
	for name, value := range e.Cursors {
		if rest, is := strings.CutPrefix(name, logCursor); is && value != "" && e.Kind != merkle.KindSegment {
			if seq, at, ok = parsePlace(value); ok {
				return rest, seq, at, true
			}
		}
	}
	return "", 0, time.Time{}, false
}

// place is the value of a cursor "log/...".
func place(seq uint64, at time.Time) string {
	return strconv.FormatUint(seq, 10) + "@" + at.UTC().Format(timeLayout)
}

func parsePlace(value string) (seq uint64, at time.Time, ok bool) {
	number, stamp, found := strings.Cut(value, "@")
	seq, err := strconv.ParseUint(number, 10, 63)
	if err != nil || !found {
		return 0, time.Time{}, false
	}
	at, err = time.Parse(timeLayout, stamp)
	return seq, at, err == nil
}

// Name of a log by its origin and verifier keys, the first of which never changes.
func Name(origin string, keys []string) (string, error) {
	if len(keys) == 0 {
		return "", fmt.Errorf("log %s has no verifier key", origin)
	}
	v, err := note.NewVerifier(keys[0])
	if err != nil || v.Name() != origin {
		return "", fmt.Errorf("log %.200q: %.200q is not a verifier key of it", origin, keys[0])
	}
	return fmt.Sprintf("%s %08x", origin, v.KeyHash()), nil
}
