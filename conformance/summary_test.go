package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/consts"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// table is the summary of a run, for people.
func (r *record) table(took time.Duration) string {
	tests := r.ran()
	var out strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	p("# Gateway API %s, experimental channel: the upstream conformance suite, %s\n", consts.BundleVersion, kind())
	p("Written by `make conformance%s`; what it means is in [docs/conformance.md](../../docs/conformance.md).\n", suffix())

	count := map[string]int{}
	traffic, trafficFailed := 0, 0
	for _, h := range tests {
		count[h.Result]++
		if len(h.Sent) > 0 {
			traffic++
			if h.Result == failed {
				trafficFailed++
			}
		}
	}
	p("| | |\n|---|---|")
	p("| tests | %d: %d passed, %d failed |", len(tests), count[passed], count[failed])
	p("| of them send traffic | %d: %d failed |", traffic, trafficFailed)
	p("| read status alone | %d |", len(tests)-traffic)
	p("| time, with the installation of the chart | %s |", took.Round(time.Second))
	p("")
	for _, profile := range []suite.ConformanceProfile{suite.GatewayHTTPConformanceProfile, suite.GatewayGRPCConformanceProfile} {
		section(p, profile, tests)
	}
	others(p, tests)
	return out.String()
}

// others are tests that upstream counts for no profile.
func others(p func(string, ...any), tests []*happened) {
	head := "## Counted for no profile\n\n| test | result | seconds | requests | how the token travelled |\n|---|---|---|---|---|"
	for _, h := range tests {
		_, _, http := within(suite.GatewayHTTPConformanceProfile, h.Features)
		_, _, grpc := within(suite.GatewayGRPCConformanceProfile, h.Features)
		if http || grpc {
			continue
		}
		if head != "" {
			p("%s", head)
			head = ""
		}
		p("| %s | %s | %.1f | %s |", h.Name, h.Result, h.Seconds, travelled(h))
	}
}

func kind() string {
	if *locked {
		return "without tokens and without Activations"
	}
	return "with a token on every request"
}

func suffix() string {
	if *locked {
		return "-locked"
	}
	return ""
}

// section has the tests of a profile, those of core first.
func section(p func(string, ...any), profile suite.ConformanceProfile, tests []*happened) {
	p("## %s\n", profile.Name)
	p("| test | needs, besides core | result | seconds | requests | how the token travelled |\n|---|---|---|---|---|---|")
	for _, extended := range []bool{false, true} {
		for _, h := range tests {
			needs, extends, belongs := within(profile, h.Features)
			if !belongs || extends != extended {
				continue
			}
			p("| %s | %s | %s | %.1f | %s |", h.Name, needs, h.Result, h.Seconds, travelled(h))
		}
	}
	p("")
}

// within tells which features beyond core a test needs, whether it needs any, and whether it belongs to the profile.
func within(profile suite.ConformanceProfile, needs []string) (beyond string, extended, belongs bool) {
	var names []string
	for _, f := range needs {
		switch name := features.FeatureName(f); {
		case profile.CoreFeatures.Has(name):
		case profile.ExtendedFeatures.Has(name):
			names = append(names, f)
		default:
			return "", false, false
		}
	}
	return strings.Join(names, ", "), len(names) > 0, true
}

// travelled is the number of requests, and how their tokens travelled.
func travelled(h *happened) string {
	if len(h.Sent) == 0 {
		return "0 | reads status alone"
	}
	var ways []string
	total := 0
	for how, n := range h.Sent {
		total += n
		ways = append(ways, fmt.Sprintf("%s (%d)", how, n))
	}
	slices.Sort(ways)
	return fmt.Sprintf("%d | %s", total, strings.Join(ways, "; "))
}
