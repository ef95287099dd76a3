package testbed

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// LogDir is where the audit log is.
func (w *World) LogDir() string { return filepath.Join(w.Data, "log") }

// Entries of the audit log, of one kind; "" for all.
func (w *World) Entries(kind string) []merkle.Entry {
	GinkgoHelper()
	var out []merkle.Entry
	Expect(merkle.Read(context.Background(), w.LogDir(), merkle.Filter{}, func(e merkle.Entry) error {
		if kind == "" || e.Kind == kind {
			out = append(out, e)
		}
		return nil
	})).To(Succeed())
	return out
}

// Logged are the requests below a path that the audit log has, of one type, by
// their path.
func (w *World) Logged(kind, prefix string) map[string][]audit.RequestEntry {
	GinkgoHelper()
	out := map[string][]audit.RequestEntry{}
	for _, e := range w.Entries(audit.KindRequest) {
		var r audit.RequestEntry
		Expect(json.Unmarshal(e.Data, &r)).To(Succeed())
		if r.Type == kind && strings.HasPrefix(r.Path, prefix) {
			out[r.Path] = append(out[r.Path], r)
		}
	}
	return out
}

// Gaps that the audit log tells of.
func (w *World) Gaps() []audit.Gap {
	GinkgoHelper()
	var out []audit.Gap
	for _, e := range w.Entries(audit.KindGap) {
		var g audit.Gap
		Expect(json.Unmarshal(e.Data, &g)).To(Succeed())
		out = append(out, g)
	}
	return out
}
