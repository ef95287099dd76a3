package alarm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

const (
	// maxSubjects of an offline issuer have an alarm each, by activation. Who holds the
	// key can make up as many as he likes.
	maxSubjects = 20
	// maxOffline bounds what is remembered of all activations. Beyond, alarms come all
	// the same, and maybe again after a restart.
	maxOffline = 80
)

// offlineUsed: a token came that was signed with the key that the team keeps for the
// day its identity provider is down. Once for each activation and subject.
func (r *Rules) offlineUsed(*merkle.Entry) []audit.Alarm {
	q := &r.request
	if r.broken || q.Issuer == "" || !r.issuers[short(q.Issuer)] {
		return nil
	}
	// Without an activation, for it was not open, it is once a day.
	under := strings.Join(q.Activations, ",")
	if under == "" {
		under = q.Gateway + " " + q.Start.UTC().Format("2006-01-02")
	}
	under = audit.Text(under, maxLabel)
	if r.offline[under] > maxSubjects {
		return nil
	}
	subject, who := short(q.Issuer, q.Subject), by(q.Subject)
	if r.offline[under] == maxSubjects {
		subject, who = "more", fmt.Sprintf("more than %d subjects", maxSubjects)
	}
	name := offlineCursor(under, subject)
	if r.remembered(name) != "" {
		return nil
	}
	if r.count("offline/") < maxOffline {
		r.remember(name, "1")
	}
	r.offline[under]++
	verb := "used a token of the offline issuer"
	if q.Denied != "" {
		verb = "was turned away (" + audit.Text(q.Denied, maxLabel) + ") with a token of the offline issuer"
	}
	return []audit.Alarm{{
		ID: "offline/" + under + "/" + subject, Name: audit.AlarmOffline, Severity: Critical, Time: q.At(),
		Summary: fmt.Sprintf("%s %s %s at %s, activation %s: is the identity provider down?", who, verb, audit.Text(q.Issuer, maxLabel), q.Route, under),
		Labels: map[string]string{
			"activation": strings.Join(q.Activations, ","), "role": q.Role, "incident": q.Incident, "gateway": q.Gateway, "route": q.Route, "issuer": q.Issuer, "subject": q.Subject,
		},
	}}
}

func offlineCursor(under, subject string) string { return "offline/" + under + "/" + subject }

// forgetOffline forgets who used an offline issuer under an activation that has
// ended.
func (r *Rules) forgetOffline(*merkle.Entry) []audit.Alarm {
	if r.broken || r.current.Record.Phase == "" {
		return nil
	}
	name := audit.Text(r.current.name(), maxLabel)
	for under := range r.offline {
		if slices.Contains(strings.Split(under, ","), name) {
			r.forgetUnder(under)
		}
	}
	return nil
}

func (r *Rules) forgetUnder(under string) {
	delete(r.offline, under)
	for name := range r.state {
		if strings.HasPrefix(name, cursorPrefix+offlineCursor(under, "")) {
			r.remember(name[len(cursorPrefix):], "")
		}
	}
}

func (r *Rules) restoreOffline() {
	prefix := cursorPrefix + "offline/"
	for name := range r.state {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if i := strings.LastIndexByte(rest, '/'); i >= 0 {
				r.offline[rest[:i]]++
			}
		}
	}
}
