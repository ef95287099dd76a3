package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// longest is the longest window any policy can allow.
const longest = 24 * time.Hour

// activation is what the flags ask for. Its namespace is empty if none was
// given. Everything that is wrong is told at once.
func (o *activateOptions) activation(args []string, now time.Time) (*v1alpha1.Activation, []target, error) {
	targets, namespace, err := parseTargets(args, o.namespace)
	if err != nil {
		return nil, nil, err
	}
	if len(targets) > 16 {
		return nil, nil, usagef("%d routes: one activation opens at most 16", len(targets))
	}
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	duration, notAfter, err := o.window(now)
	if err != nil {
		return nil, nil, err
	}
	name := o.name
	if name == "" {
		name = newName(o.incident, targets[0].name, o.drill)
	}
	d := gatewayDuration(duration)
	a := &v1alpha1.Activation{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Activation"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.ActivationSpec{
			Role: o.role, Reason: o.reason, Incident: o.incident, Drill: o.drill,
			Duration: &d, NotAfter: &metav1.Time{Time: notAfter},
		},
	}
	for _, t := range targets {
		a.Spec.TargetRefs = append(a.Spec.TargetRefs, t.reference())
	}
	return a, targets, nil
}

// check tells what is missing or malformed.
func (o *activateOptions) check() error {
	var wrong []string
	need := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	o.role, o.incident = strings.TrimSpace(o.role), strings.TrimSpace(o.incident)
	need(o.role == "", "--role is missing: name the emergency role; `breakglass status` lists each route with its role")
	need(o.role != "" && len(validation.IsDNS1123Label(o.role)) > 0, "--role %q cannot be the name of a role; `breakglass status` lists each route with its role", o.role)
	need(strings.TrimSpace(o.reason) == "", "--reason is missing: say why, in words for whoever reviews this")
	need(utf8.RuneCountInString(o.reason) > 1024, "--reason is %d characters long: at most 1024", utf8.RuneCountInString(o.reason))
	need(o.incident == "" && !o.drill, "--incident is missing: name the incident, or say --drill for a rehearsal")
	need(utf8.RuneCountInString(o.incident) > 253, "--incident is %d characters long: at most 253", utf8.RuneCountInString(o.incident))
	need(o.name != "" && len(validation.IsDNS1123Subdomain(o.name)) > 0, "--name %q: %s", o.name, nameForm)
	need(o.timeout <= 0, "--timeout must be more than 0")
	if len(wrong) == 0 {
		return nil
	}
	return usageError{errors.New(strings.Join(wrong, "\n  "))}
}

// window is how long, and until when at the latest. The absolute bound is what
// keeps a restored backup from opening the door again. It is rounded up to the
// second because that is what a Kubernetes time can say; the duration bounds the
// window too, so that this never lengthens it. A bound that the user gave is
// rounded down.
func (o *activateOptions) window(now time.Time) (time.Duration, time.Time, error) {
	duration := o.duration
	var bound time.Time
	if o.notAfter != "" {
		t, err := parseTime(o.notAfter, now)
		if err != nil {
			return 0, bound, usagef("--not-after %q: %w", o.notAfter, err)
		}
		bound = t.Truncate(time.Second)
		if !bound.After(now) {
			return 0, bound, usagef("--not-after %s has passed", o.notAfter)
		}
		if !o.durationSet {
			duration = min(ceil(bound.Sub(now), time.Second), longest)
		}
	}
	if duration < time.Second || duration > longest {
		return 0, bound, usagef("--duration %s: must be between 1s and 24h", o.duration)
	}
	end := now.Add(duration)
	if t := end.Truncate(time.Second); t.Before(end) {
		end = t.Add(time.Second)
	}
	if !bound.IsZero() && bound.Before(end) {
		end = bound
	}
	return duration, end.UTC(), nil
}

func ceil(d, unit time.Duration) time.Duration {
	if r := d % unit; r > 0 {
		return d - r + unit
	}
	return d
}

// parseTime reads an RFC 3339 time, or the next time that the local clock shows
// HH:MM.
func parseTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		t, err := time.ParseInLocation(layout, s, now.Location())
		if err != nil {
			continue
		}
		day := func(n int) time.Time {
			return time.Date(now.Year(), now.Month(), now.Day()+n, t.Hour(), t.Minute(), t.Second(), 0, now.Location())
		}
		if next := day(0); next.After(now) {
			return next, nil
		}
		return day(1), nil
	}
	return time.Time{}, errors.New("write an RFC 3339 time such as 2026-11-24T03:15:00Z, or HH:MM in local time")
}

// gatewayDuration writes d as a Gateway API Duration (GEP-2257), which has no
// fractions and nothing below a millisecond. It rounds down.
func gatewayDuration(d time.Duration) gwv1.Duration {
	var b strings.Builder
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if n := d / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= n * u.unit
		}
	}
	return gwv1.Duration(b.String())
}
