package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// cloudEvents posts events (CloudEvents 1.0.2, HTTP binding), signed as the Standard
// Webhooks specification says.
type cloudEvents struct {
	*client
	batch      bool
	secretFile string
	now        func() time.Time
}

func newCloudEvents(c *CloudEvents, now func() time.Time) *cloudEvents {
	return &cloudEvents{newClient(c.URL, c.CAFile, now), c.Mode == "Batch", c.SecretFile, now}
}

func (c *cloudEvents) deliver(ctx context.Context, records []record) (int, error) {
	secrets, err := c.secrets()
	if err != nil {
		return 0, err
	}
	if c.batch {
		return c.all(ctx, records, secrets)
	}
	for i := range records {
		r := &records[i]
		header := binaryHeader(r)
		if err := c.send(ctx, header, r.id(), r.body, secrets); err != nil {
			return i, err
		}
	}
	return len(records), nil
}

// all sends a batch. Its id names the first and the last of it, so that the same
// records have the same id again.
func (c *cloudEvents) all(ctx context.Context, records []record, secrets []secret) (int, error) {
	events := make([]event, len(records))
	for i := range records {
		events[i] = newEvent(&records[i])
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // the lines stay as they are
	if err := enc.Encode(events); err != nil {
		return 0, err
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	id := records[0].id()
	if len(records) > 1 {
		id += ".." + records[len(records)-1].id()
	}
	header := http.Header{"Content-Type": {"application/cloudevents-batch+json; charset=UTF-8"}}
	if err := c.send(ctx, header, id, body, secrets); err != nil {
		return 0, err
	}
	return len(records), nil
}

func (c *cloudEvents) send(ctx context.Context, header http.Header, id string, body []byte, secrets []secret) error {
	if len(secrets) > 0 {
		at := strconv.FormatInt(c.now().Unix(), 10)
		var sigs []string
		for _, s := range secrets {
			sigs = append(sigs, s.sign(id, at, body))
		}
		header.Set("webhook-id", id)
		header.Set("webhook-timestamp", at)
		header.Set("webhook-signature", strings.Join(sigs, " "))
	}
	_, _, err := c.post(ctx, header, body)
	return err
}

// event is a CloudEvent in JSON. The line of the log is its data.
type event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Sequence        string          `json:"sequence,omitempty"`
	Data            json.RawMessage `json:"data"`
}

func newEvent(r *record) event {
	e := event{
		SpecVersion: "1.0", ID: r.id(), Source: r.log, Type: eventName(r), Time: r.entry.Time.UTC().Format(time.RFC3339Nano),
		DataContentType: "application/json", Data: r.body,
	}
	if r.note == nil {
		// Of the same length, so that they sort (CloudEvents' extension sequence).
		e.Sequence = fmt.Sprintf("%020d", r.entry.Seq)
	}
	for _, a := range factsOf(r).attributes {
		if a[0] == "alarm.id" {
			e.Subject = a[1]
		}
	}
	return e
}

// binaryHeader has the attributes of an event of which the body is the data.
func binaryHeader(r *record) http.Header {
	e := newEvent(r)
	h := http.Header{"Content-Type": {e.DataContentType}}
	for _, a := range [][2]string{
		{"specversion", e.SpecVersion}, {"id", e.ID}, {"source", e.Source}, {"type", e.Type},
		{"subject", e.Subject}, {"time", e.Time}, {"sequence", e.Sequence},
	} {
		if a[1] != "" {
			h.Set("ce-"+a[0], headerValue(a[1]))
		}
	}
	return h
}

// headerValue encodes what cannot be in a header (HTTP binding, section 3.1.3.2).
func headerValue(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// secrets reads one or two: while a secret is changed both sign.
func (c *cloudEvents) secrets() ([]secret, error) {
	if c.secretFile == "" {
		return nil, nil
	}
	text, err := readSmall(c.secretFile)
	if err != nil {
		return nil, fmt.Errorf("read secretFile: %w", err)
	}
	var out []secret
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		s, err := parseSecret(line)
		if err != nil {
			return nil, fmt.Errorf("secretFile %s line %d: %w", c.secretFile, len(out)+1, err)
		}
		out = append(out, s)
	}
	if len(out) == 0 || len(out) > 2 {
		return nil, fmt.Errorf("secretFile %s: %w", c.secretFile, errors.New("it must have one secret, or two while one is changed for another"))
	}
	return out, nil
}
