package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// clean keeps what others wrote (an incident, a reason, a manifest's message) on
// one line and from driving the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// why an activation is as it is, in a word and in a sentence.
func why(a *v1alpha1.Activation) (reason, message string) {
	for _, kind := range []string{v1alpha1.ConditionLive, v1alpha1.ConditionAccepted} {
		if c := condition(a, kind); c != nil && c.Status != metav1.ConditionTrue && (c.Reason != "" || c.Message != "") {
			return clean(c.Reason), clean(c.Message)
		}
	}
	for _, t := range a.Status.Targets {
		if t.Phase != v1alpha1.PhaseLive && t.Message != "" {
			return clean(t.Reason), clean(t.Message)
		}
	}
	return "", ""
}

func condition(a *v1alpha1.Activation, kind string) *metav1.Condition {
	for i := range a.Status.Conditions {
		if a.Status.Conditions[i].Type == kind {
			return &a.Status.Conditions[i]
		}
	}
	return nil
}

func joinReason(reason, message string) string {
	switch {
	case reason == "":
		return clean(message)
	case message == "":
		return clean(reason)
	}
	return clean(reason) + ": " + clean(message)
}

func pastTense(p v1alpha1.Phase) string {
	switch p {
	case v1alpha1.PhaseRefused:
		return "refused"
	case v1alpha1.PhaseRevoked:
		return "revoked"
	case v1alpha1.PhaseExpired:
		return "closed"
	}
	return strings.ToLower(string(p))
}

func targetName(t v1alpha1.TargetReference) string {
	s := routeArg(t.Kind, t.Name)
	if t.SectionName != nil {
		s += ":" + string(*t.SectionName)
	}
	return clean(s)
}

func targetNames(a *v1alpha1.Activation) string {
	names := make([]string, len(a.Spec.TargetRefs))
	for i, t := range a.Spec.TargetRefs {
		names[i] = targetName(t)
	}
	return strings.Join(names, ",")
}

// deadline of an activation as far as it is known.
func deadline(a *v1alpha1.Activation) (time.Time, bool) {
	switch {
	case a.Status.Deadline != nil:
		return a.Status.Deadline.Time, true
	case a.Spec.NotAfter != nil:
		return a.Spec.NotAfter.Time, true
	}
	return time.Time{}, false
}

// deadlineText is the deadline in local time and, where that differs, in UTC.
func deadlineText(a *v1alpha1.Activation, now time.Time) string {
	t, ok := deadline(a)
	if !ok {
		return "an unknown time"
	}
	return localAndUTC(t, now)
}

func localAndUTC(t, now time.Time) string {
	t = t.In(now.Location())
	layout := time.TimeOnly
	if t.YearDay() != now.YearDay() || t.Year() != now.Year() {
		layout = time.DateTime
	}
	if _, offset := t.Zone(); offset == 0 {
		return t.UTC().Format(layout + " UTC")
	}
	return fmt.Sprintf("%s (%s)", t.Format(layout+" MST"), t.UTC().Format(layout+" UTC"))
}

// left is the time left, rounded down: what is shown is there to be used.
func left(d time.Duration) string {
	if d <= 0 {
		return "0s"
	}
	if d < time.Second {
		return "<1s"
	}
	return string(gatewayDuration(d.Truncate(time.Second)))
}

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+,=", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
