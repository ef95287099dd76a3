package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// recent is how long an activation that ended is still shown.
const recent = time.Hour

// writeStatus writes the tables: what is wrong with serve itself first, what is
// wrong with the manifests last, next to the prompt.
func writeStatus(out io.Writer, st *control.Status, wide bool) error {
	sections := []func(io.Writer, *control.Status, bool) error{
		writeSummary, writeGateways, writeRoutes, writeActivations, writePolicies, writeProblems,
	}
	for i, write := range sections {
		if i > 0 {
			if _, err := fmt.Fprintln(out); err != nil {
				return err
			}
		}
		if err := write(out, st, wide); err != nil {
			return err
		}
	}
	return nil
}

func writeSummary(out io.Writer, st *control.Status, wide bool) error {
	var b strings.Builder
	if st.Ready {
		b.WriteString("READY")
	} else {
		b.WriteString("NOT READY")
	}
	fmt.Fprintf(&b, "  breakglass %s, %s\n", clean(cmp.Or(st.Version, "of an unknown version")), localAndUTC(st.Now, st.Now.Local()))
	for _, n := range st.NotReady {
		fmt.Fprintf(&b, "  %s\n", clean(n))
	}
	if st.ClockBehind != "" {
		fmt.Fprintf(&b, "  the system's clock is %s behind: it was set back; windows close by the later time all the same\n", clean(st.ClockBehind))
	}
	b.WriteString(alarmLines(st.Alarms, st.Now, wide))
	total := 0
	for _, n := range st.Objects {
		total += n
	}
	if total == 0 && st.Cluster == "" {
		b.WriteString("  nothing is loaded: is there a manifest in the --config directory of serve?\n")
	} else if wide {
		var parts []string
		for _, kind := range slices.Sorted(maps.Keys(st.Objects)) {
			parts = append(parts, fmt.Sprintf("%s %d", clean(kind), st.Objects[kind]))
		}
		fmt.Fprintf(&b, "  objects: %s\n", strings.Join(parts, ", "))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func writeGateways(out io.Writer, st *control.Status, wide bool) error {
	if len(st.Gateways) == 0 {
		_, err := fmt.Fprintln(out, "No gateways.")
		return err
	}
	headings := []string{"GATEWAY", "LISTENER", "ADDRESS", "ROUTES", "PROGRAMMED", "ENVOY"}
	if wide {
		headings = append(headings, "CLASS", "POLICY", "HOSTNAME")
	}
	t := newTable(out, append(headings, "MESSAGE")...)
	for _, g := range st.Gateways {
		listeners := g.Listeners
		if len(listeners) == 0 {
			listeners = []control.ListenerStatus{{Message: "no listeners"}}
		}
		for _, l := range listeners {
			address := ""
			if l.Port != 0 {
				address = strings.ToLower(l.Protocol) + " " + hostPort(l.Address, l.Port)
			}
			row := []string{g.Namespace + "/" + g.Name, l.Name, address, strconv.Itoa(int(l.AttachedRoutes)), yesNo(l.Programmed), envoyState(g.Envoy)}
			if wide {
				row = append(row, g.Class, g.Policy, l.Hostname)
			}
			message := l.Message
			if message == "" {
				message = g.Envoy.LastError
			}
			t.row(append(row, message)...)
		}
	}
	return t.flush()
}

func hostPort(host string, port int32) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d", host, port)
}

func envoyState(e control.EnvoyStatus) string {
	state := "down"
	switch {
	case e.Ready && e.Connected:
		state = "ready"
	case e.Connected:
		state = "starting"
	case e.PID != 0:
		state = "not connected"
	}
	if e.Restarts > 0 {
		state += fmt.Sprintf(" (%d restarts)", e.Restarts)
	}
	return state
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func writeRoutes(out io.Writer, st *control.Status, wide bool) error {
	if len(st.Routes) == 0 {
		_, err := fmt.Fprintln(out, "No routes.")
		return err
	}
	headings := []string{"ROUTE", "ROLE", "HOSTNAMES", "STATE"}
	if wide {
		headings = append(headings, "GATEWAYS", "MATCHES")
	}
	t := newTable(out, append(headings, "MESSAGE")...)
	for _, r := range st.Routes {
		row := []string{routeArg(r.Kind, r.Namespace+"/"+r.Name), r.Role, strings.Join(r.Hostnames, ","), routeState(r)}
		if wide {
			var matches []string
			for _, m := range r.Matches {
				matches = append(matches, strings.TrimSpace(cmp.Or(m.Method, "*")+" "+m.Path))
			}
			row = append(row, strings.Join(r.Gateways, ","), strings.Join(matches, ", "))
		}
		t.row(append(row, routeMessage(r, wide))...)
	}
	return t.flush()
}

// routeMessage is what is wrong with a route. Live and Dormant are how a route
// should be: only wide explains what is normal, and of what is live only what
// follows until when.
func routeMessage(r control.RouteStatus, wide bool) string {
	switch {
	case r.Reason == "Live":
		_, remarks, _ := strings.Cut(r.Message, "; ")
		return remarks
	case r.Reason == "Dormant" && !wide:
		return ""
	}
	return r.Message
}

func routeState(r control.RouteStatus) string {
	switch {
	case r.Live:
		return "Live"
	case r.Accepted:
		return "Dormant"
	case r.Reason != "":
		return "Not accepted: " + r.Reason
	}
	return "Not accepted"
}

func writeActivations(out io.Writer, st *control.Status, wide bool) error {
	if err := writeActivationTable(out, st, wide); err != nil {
		return err
	}
	_, err := io.WriteString(out, reviewsText(st))
	return err
}

func writeActivationTable(out io.Writer, st *control.Status, wide bool) error {
	var shown []v1alpha1.Activation
	older := 0
	for _, a := range st.Activations {
		if t, ok := endOf(&a); !wide && a.Status.Phase.Final() && ok && st.Now.Sub(t) > recent {
			older++
			continue
		}
		shown = append(shown, a)
	}
	slices.SortStableFunc(shown, func(a, b v1alpha1.Activation) int {
		return cmp.Compare(rank(a.Status.Phase), rank(b.Status.Phase)) // what is open comes first
	})
	if len(shown) == 0 {
		text := "No activations."
		if older > 0 {
			text = fmt.Sprintf("No activations now; %d ended more than an hour ago (-o wide).", older)
		}
		_, err := fmt.Fprintln(out, text)
		return err
	}
	headings := []string{"ACTIVATION", "ROUTE", "ROLE", "INCIDENT", "PHASE", "LEFT", "BY"}
	if wide {
		headings = append(headings, "OPENED", "DEADLINE", "REVIEW", "REASON")
	}
	t := newTable(out, append(headings, "MESSAGE")...)
	for i := range shown {
		t.row(activationRow(&shown[i], st.Now, wide)...)
	}
	if err := t.flush(); err != nil || older == 0 {
		return err
	}
	_, err := fmt.Fprintf(out, "%d more ended more than an hour ago (-o wide).\n", older)
	return err
}

func activationRow(a *v1alpha1.Activation, now time.Time, wide bool) []string {
	remaining := ""
	end, ok := deadline(a)
	if ok && !a.Status.Phase.Final() {
		remaining = left(end.Sub(now))
	}
	row := []string{
		a.Namespace + "/" + a.Name, targetNames(a), a.Spec.Role, incidentOf(a),
		string(cmp.Or(a.Status.Phase, v1alpha1.PhasePending)), remaining, a.Status.RequestedBy,
	}
	if wide {
		openedAt, by := "", ""
		if a.Status.OpenedAt != nil {
			openedAt = a.Status.OpenedAt.UTC().Format(time.RFC3339)
		}
		if ok {
			by = end.UTC().Format(time.RFC3339)
		}
		review := ""
		if r := a.Status.Review; r != nil {
			review = string(r.State)
		}
		row = append(row, openedAt, by, review, a.Spec.Reason)
	}
	message := ""
	if a.Status.Phase != v1alpha1.PhaseLive {
		message = joinReason(why(a))
	}
	return append(row, message)
}

func incidentOf(a *v1alpha1.Activation) string {
	if a.Spec.Drill {
		return strings.TrimSpace("drill " + a.Spec.Incident)
	}
	return a.Spec.Incident
}

// endOf is when an activation ended: when its Live condition last changed, else
// at its deadline. One that has neither is taken to have ended just now.
func endOf(a *v1alpha1.Activation) (time.Time, bool) {
	if c := condition(a, v1alpha1.ConditionLive); c != nil && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time, true
	}
	return deadline(a)
}

func rank(p v1alpha1.Phase) int {
	switch {
	case p == v1alpha1.PhaseLive:
		return 0
	case !p.Final():
		return 1
	}
	return 2
}

func writePolicies(out io.Writer, st *control.Status, _ bool) error {
	if len(st.Policies) == 0 {
		_, err := fmt.Fprintln(out, "No policies.")
		return err
	}
	t := newTable(out, "POLICY", "STATE", "ISSUERS", "MESSAGE")
	for _, p := range st.Policies {
		state := "Accepted"
		switch {
		case p.Suspended:
			state = "SUSPENDED"
		case !p.Accepted:
			state = "Not accepted"
		}
		var issuers, errs []string
		for _, i := range p.Issuers {
			issuers = append(issuers, issuerText(i))
			if i.Error != "" && !strings.Contains(p.Message, "issuer "+i.Name+": "+i.Error) {
				errs = append(errs, "issuer "+i.Name+": "+i.Error)
			}
		}
		message := p.Message
		if p.Suspended && message == "" {
			message = "nothing is open and nothing can be opened until spec.suspended is false"
		}
		t.row(p.Name, state, strings.Join(issuers, ", "), strings.Join(append(nonEmpty(message), errs...), "; "))
	}
	return t.flush()
}

func issuerText(i control.IssuerStatus) string {
	var notes []string
	if i.Keys >= 0 {
		notes = append(notes, count(i.Keys, "key"))
	}
	if i.Offline {
		notes = append(notes, "offline")
	}
	if i.Stale {
		notes = append(notes, "stale")
	}
	if len(notes) == 0 {
		return i.Name
	}
	return i.Name + " (" + strings.Join(notes, ", ") + ")"
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func writeProblems(out io.Writer, st *control.Status, _ bool) error {
	if len(st.Problems) == 0 {
		_, err := fmt.Fprintln(out, "No problems.")
		return err
	}
	var b strings.Builder
	b.WriteString("PROBLEMS\n")
	for _, p := range st.Problems {
		where := p.File
		if p.Line > 0 {
			where += ":" + strconv.Itoa(p.Line)
		}
		var parts []string
		for _, s := range []string{where, p.Object, p.Field, p.Message, p.Remedy} {
			parts = append(parts, nonEmpty(clean(s))...)
		}
		b.WriteString(strings.Join(parts, ": "))
		if p.LastGood {
			b.WriteString(" (the last good version stays in use)")
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(out, b.String())
	return err
}
