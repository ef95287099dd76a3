package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// alarmLines say who is told of what happens. That nobody is stands at the top,
// whatever else is wrong; that somebody is, only where all is shown.
func alarmLines(a *control.AlarmStatus, now time.Time, wide bool) string {
	if a == nil {
		return ""
	}
	var b strings.Builder
	if a.Problem != "" {
		fmt.Fprintf(&b, "  NOBODY IS TOLD: %s\n", clean(a.Problem))
	}
	for _, s := range a.Sinks {
		switch {
		case !s.Failing.IsZero() && a.Problem == "":
			fmt.Fprintf(&b, "  the alarm sink %s takes nothing since %s: %s\n", clean(s.Name), localAndUTC(s.Failing, now.Local()), clean(s.Reason))
		case s.Failing.IsZero() && wide:
			fmt.Fprintf(&b, "  alarms go to %s\n", clean(s.Name))
		}
	}
	if a.Undelivered > 0 {
		fmt.Fprintf(&b, "  alarms that nobody has been told of yet: %d, the oldest of %s\n", a.Undelivered, localAndUTC(a.Oldest, now.Local()))
	}
	return b.String()
}

// silence warns who opens a door of which nobody is told; "" if somebody is.
func silence(st *control.Status) string {
	if st == nil || st.Alarms == nil || st.Alarms.Problem == "" {
		return ""
	}
	return fmt.Sprintf("Warning: nobody is told that this door is open: %s\n", clean(st.Alarms.Problem))
}

func tellAlarm(a audit.Alarm) telling {
	t := telling{event: a.Event, object: a.Name, role: a.Labels["role"], incident: a.Labels["incident"], at: a.Time}
	if a.Event == audit.AlarmDelivered {
		t.who, t.at = "sink "+a.Sink, a.At
		t.message = fmt.Sprintf("%s after its cause: %s", a.At.Sub(a.Time).Round(time.Millisecond), a.ID)
		return t
	}
	t.message = a.Severity + ": " + a.Summary
	return t
}

func tellSink(s audit.Sink) telling {
	t := telling{event: s.Event, object: "sink " + s.Sink, message: s.Reason}
	if s.Behind > 0 {
		t.message += fmt.Sprintf(" (%d entries wait)", s.Behind)
	}
	return t
}
