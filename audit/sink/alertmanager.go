package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// alertFor is how long an alert stays before it resolves by itself: an alarm is of
// something that has happened, and nobody tells when it is over.
const alertFor = time.Hour

// alertmanager posts alarms as alerts (API v2). The labels are the alert's identity
// there, and the id of the alarm is one of them: the same alarm twice is one alert.
type alertmanager struct {
	*client
	tokenFile string
	now       func() time.Time
}

func newAlertmanager(c *Alertmanager, now func() time.Time) *alertmanager {
	return &alertmanager{newClient(strings.TrimRight(c.URL, "/")+"/api/v2/alerts", c.CAFile, now), c.TokenFile, now}
}

// alert is a postableAlert of the API.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

func (a *alertmanager) deliver(ctx context.Context, records []record) (int, error) {
	var alerts []alert
	for i := range records {
		r := &records[i]
		if r.note != nil || r.entry.Kind != audit.KindAlarm {
			continue
		}
		var alarm audit.Alarm
		if err := json.Unmarshal(r.entry.Data, &alarm); err != nil {
			return 0, fmt.Errorf("entry %d is no alarm: %w", r.entry.Seq, err)
		}
		if alarm.Event == audit.AlarmRaised {
			alerts = append(alerts, newAlert(&alarm, a.now()))
		}
	}
	if len(alerts) == 0 {
		return len(records), nil
	}
	body, err := json.Marshal(alerts)
	if err != nil {
		return 0, err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if a.tokenFile != "" {
		token, err := readSmall(a.tokenFile)
		if err != nil {
			return 0, fmt.Errorf("read tokenFile: %w", err)
		}
		header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	}
	if _, _, err := a.post(ctx, header, body); err != nil {
		return 0, err
	}
	return len(records), nil
}

// newAlert ends after it could be delivered, however late that is: one that had
// ended before would be told to nobody.
func newAlert(a *audit.Alarm, now time.Time) alert {
	labels := make(map[string]string, len(a.Labels)+3)
	for k, v := range a.Labels {
		labels[k] = v
	}
	labels["alertname"], labels["severity"], labels["id"] = a.Name, a.Severity, a.ID
	end := now
	if a.Time.After(end) {
		end = a.Time
	}
	return alert{
		Labels: labels, Annotations: map[string]string{"summary": a.Summary},
		StartsAt: a.Time.UTC(), EndsAt: end.Add(alertFor).UTC(),
	}
}
