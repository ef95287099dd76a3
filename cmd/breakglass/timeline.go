package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

type timelineOptions struct {
	backend
	since, output string
}

func newTimelineCommand() *cobra.Command {
	o := &timelineOptions{}
	cmd := &cobra.Command{
		Use:   "timeline",
		Short: "Show who did what, from the journal",
		Long: `Show who did what, from the journal, the oldest first: who opened and closed
what, what was refused, and every request that came to an emergency door.

With -o json each line is one entry, as a JSON object with the recorded data.

Of a cluster it shows what became of the Activations that are there. Requests, and
what was deleted, are in the audit log of the gateway's pods: see breakglass audit.` + backendLong,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.since, "since", "1h", "how far back: a duration such as 30m, or an RFC 3339 time")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	o.addFlags(cmd)
	fixedCompletion(cmd, "output", "table", "json")
	return cmd
}

func (o *timelineOptions) run(cmd *cobra.Command) error {
	if err := checkOutput(o.output, "table", "json"); err != nil {
		return err
	}
	since, err := parseSince(o.since, time.Now())
	if err != nil {
		return err
	}
	c, err := o.open(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer c.Close()
	write, flush := timelineWriter(cmd.OutOrStdout(), o.output)
	// What came before an error is shown: half a timeline is better than none.
	err = c.Timeline(cmd.Context(), since, write)
	return cmp.Or(err, flush())
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		if d < 0 {
			return time.Time{}, usagef("--since %q: must not be negative", s)
		}
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, usagef("--since %q: write a duration such as 30m or an RFC 3339 time such as 2026-11-24T03:15:00Z", s)
	}
	return t, nil
}

func timelineWriter(out io.Writer, form string) (write func(control.TimelineEntry) error, flush func() error) {
	if form == "json" {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return func(t control.TimelineEntry) error { return e.Encode(t) }, func() error { return nil }
	}
	t := newTable(out, "TIME", "EVENT", "WHO", "OBJECT", "ROLE", "INCIDENT", "MESSAGE")
	row := func(e control.TimelineEntry) {
		event := e.Kind
		if e.Event != "" && e.Event != e.Kind {
			event += " " + e.Event
		}
		t.row(e.Time.Local().Format("2006-01-02 15:04:05.000 MST"), event, e.Who, e.Object, e.Role, e.Incident, e.Message)
	}
	var open openRequests
	return func(e control.TimelineEntry) error {
			if !open.take(e) {
				row(e)
			}
			return nil
		}, func() error {
			for _, e := range open.entries {
				e.Event = "still open, or its end was not seen"
				row(e)
			}
			return t.flush()
		}
}

// openRequests are the starts of requests that have no end yet. A request that
// has both is one row, its end.
type openRequests struct{ entries []control.TimelineEntry }

// take keeps a start, drops it at its end, and reports whether e is no row.
func (o *openRequests) take(e control.TimelineEntry) bool {
	if e.Kind != "request" {
		return false
	}
	if e.Event == "started" {
		o.entries = append(o.entries, e)
		return true
	}
	o.entries = slices.DeleteFunc(o.entries, func(s control.TimelineEntry) bool { return requestKey(s) == requestKey(e) })
	return false
}

func requestKey(e control.TimelineEntry) string {
	var r struct{ Key string }
	if err := json.Unmarshal(e.Data, &r); err != nil || r.Key == "" {
		return fmt.Sprint(e.Seq) // like no other
	}
	return r.Key
}
