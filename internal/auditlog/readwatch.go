package auditlog

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// watched is an answer that may take long: it ends when its reader may not read any
// more, and when he takes nothing.
func (s *Reading) watched(ctx context.Context, cancel context.CancelFunc, w http.ResponseWriter, who authenticationv1.UserInfo) *reader {
	out := &reader{ResponseWriter: w, control: http.NewResponseController(w)}
	go func() {
		tick := time.NewTicker(s.judgeEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			asked, done := context.WithTimeout(ctx, judgeTimeout)
			may, why, err := s.Judge.May(asked, who)
			done()
			if err != nil {
				why = err.Error()
			}
			if (err != nil || !may) && ctx.Err() == nil {
				out.end(why)
				cancel()
				return
			}
		}
	}()
	return out
}

// reader is who gets an answer.
type reader struct {
	http.ResponseWriter
	control *http.ResponseController

	mu    sync.Mutex
	begun bool
	why   string // it ends
}

// Write fails once a reader has taken nothing for long.
func (r *reader) Write(b []byte) (int, error) {
	_ = r.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // HTTP/2 and TLS have them
	r.mu.Lock()
	r.begun = true
	r.mu.Unlock()
	return r.ResponseWriter.Write(b)
}

func (r *reader) Flush() { _ = r.control.Flush() }

func (r *reader) end(why string) {
	r.mu.Lock()
	r.why = why
	r.mu.Unlock()
}

// ended says why the answer is to end, "" if it is not.
func (r *reader) ended() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}

// broke tells a reader of entries that there would be more, and why it does not come.
func (r *reader) broke(err error) error {
	r.mu.Lock()
	begun := r.begun
	r.mu.Unlock()
	if why := r.ended(); why != "" {
		err = refuse(http.StatusForbidden, "%s", why)
	}
	if !begun {
		return err
	}
	line, _ := json.Marshal(failure{err.Error()}) // a string
	_, _ = r.Write(append(line, '\n'))            // or he has gone
	r.Flush()
	return nil
}
