package ship

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// mark says since when which log was brought to which service. It is durable before
// the first entry is, so who has none has brought nothing.
type mark struct {
	path string
	log  *slog.Logger
	// Logs has, by log and service, when it began.
	Logs map[string]map[string]time.Time `json:"logs"`
}

func readMark(path string, log *slog.Logger) mark {
	m := mark{path: path, log: log}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("it is not known to which service entries were brought before", "file", path, "error", err)
	}
	if m.Logs == nil {
		m.Logs = map[string]map[string]time.Time{}
	}
	return m
}

// since is the earliest time at which entries of that log may have been brought to a
// service, "" for none.
func (m *mark) since(log string) string {
	var least time.Time
	for _, at := range m.Logs[log] {
		if least.IsZero() || at.Before(least) {
			least = at
		}
	}
	if least.IsZero() {
		return ""
	}
	return least.UTC().Format(time.RFC3339Nano)
}

// begin notes that entries are about to be brought. A disk that is full does not keep
// them from being brought: it is tried again at the next question.
func (m *mark) begin(log, service string) {
	if _, ok := m.Logs[log][service]; ok {
		return
	}
	if m.Logs[log] == nil {
		m.Logs[log] = map[string]time.Time{}
	}
	m.Logs[log][service] = time.Now()
	b, err := json.Marshal(m)
	if err == nil {
		err = durable.Replace(m.path, append(b, '\n'))
	}
	if err != nil {
		delete(m.Logs[log], service)
		m.log.Warn("it cannot be noted to which service entries are brought", "file", m.path, "error", err)
	}
}
