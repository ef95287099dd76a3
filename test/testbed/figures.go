package testbed

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
)

// figure marks the report entries that are durations.
const figure = "figure: "

// Figure reports a duration that a spec measured, by name.
func Figure(name string, d time.Duration) {
	AddReportEntry(figure+name, strconv.FormatInt(int64(d), 10), ReportEntryVisibilityNever)
}

// Figures of a suite, from all its processes, are one line a name: count, least,
// median and most in ms.
func Figures(r Report) string {
	all := map[string][]time.Duration{}
	var names []string
	for _, spec := range r.SpecReports {
		for _, e := range spec.ReportEntries {
			name, is := strings.CutPrefix(e.Name, figure)
			d, err := strconv.ParseInt(e.StringRepresentation(), 10, 64)
			if !is || err != nil {
				continue
			}
			if all[name] == nil {
				names = append(names, name)
			}
			all[name] = append(all[name], time.Duration(d))
		}
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	var b strings.Builder
	for _, name := range names {
		v := slices.Sorted(slices.Values(all[name]))
		fmt.Fprintf(&b, "%-48s n=%-3d least %8.1f  median %8.1f  most %8.1f ms\n", name, len(v), ms(v[0]), ms(v[len(v)/2]), ms(v[len(v)-1]))
	}
	return b.String()
}
