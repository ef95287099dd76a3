package sink

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// newOTLP is of a receiver of OpenTelemetry logs (OTLP 1.x), by HTTP with protobuf
// or by gRPC. Requests are made here and not by OpenTelemetry's own exporters, which
// drop what they could not deliver: here a request that was not taken as a whole is
// sent again.
func newOTLP(c *OTLP, now func() time.Time) deliverer {
	if c.Protocol == "GRPC" {
		return &otlpGRPC{conf: c}
	}
	to := c.Endpoint
	if u, err := url.Parse(to); err == nil && !strings.HasSuffix(u.Path, "/v1/logs") {
		to = u.JoinPath("v1/logs").String()
	}
	return &otlpHTTP{newClient(to, c.CAFile, now), c.HeadersFile}
}

type otlpHTTP struct {
	*client
	headersFile string
}

func (o *otlpHTTP) deliver(ctx context.Context, records []record) (int, error) {
	body, err := proto.Marshal(exportRequest(records))
	if err != nil {
		return 0, err
	}
	header, err := headers(o.headersFile)
	if err != nil {
		return 0, err
	}
	header.Set("Content-Type", "application/x-protobuf")
	got, answer, err := o.post(ctx, header, body)
	if err != nil {
		return 0, err
	}
	var resp collogs.ExportLogsServiceResponse
	if t := got.Get("Content-Type"); t != "" && !strings.HasPrefix(t, "application/x-protobuf") {
		return 0, fmt.Errorf("post to %s: the answer is %s, not application/x-protobuf: is it a receiver of OTLP?", o.host, words(t))
	}
	if err := proto.Unmarshal(answer, &resp); err != nil {
		return 0, fmt.Errorf("post to %s: the answer is no answer of OTLP: is it a receiver of OTLP?", o.host)
	}
	return taken(&resp, len(records))
}

// taken complains of what a receiver has accepted in part: it does not say which
// part. The rest would be lost if that counted as taken.
func taken(resp *collogs.ExportLogsServiceResponse, n int) (int, error) {
	if rejected := resp.GetPartialSuccess().GetRejectedLogRecords(); rejected > 0 {
		return 0, &refusedError{fmt.Errorf("%d of %d records were rejected: %s", rejected, n, words(resp.GetPartialSuccess().GetErrorMessage()))}
	}
	return n, nil
}

// headers reads a file of "name: value" lines.
func headers(path string) (http.Header, error) {
	text, err := readSmall(path)
	if err != nil {
		return nil, fmt.Errorf("read headersFile: %w", err)
	}
	out := http.Header{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("headersFile %s line %d: write name: value", path, n)
		}
		out.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return out, nil
}

// exportRequest has one resource, the log. All records of a piece are of one log.
func exportRequest(records []record) *collogs.ExportLogsServiceRequest {
	out := make([]*logsv1.LogRecord, len(records))
	for i := range records {
		out[i] = logRecord(&records[i])
	}
	return &collogs.ExportLogsServiceRequest{ResourceLogs: []*logsv1.ResourceLogs{{
		Resource: &resourcev1.Resource{Attributes: []*commonv1.KeyValue{
			attribute("service.name", "breakglass"), attribute("breakglass.log", records[0].log),
		}},
		ScopeLogs: []*logsv1.ScopeLogs{{
			Scope: &commonv1.InstrumentationScope{Name: "breakglass.dev/log"}, LogRecords: out,
		}},
	}}}
}

func logRecord(r *record) *logsv1.LogRecord {
	f := factsOf(r)
	out := &logsv1.LogRecord{
		TimeUnixNano:         uint64(max(0, f.time.UnixNano())),
		ObservedTimeUnixNano: uint64(max(0, r.entry.Time.UnixNano())),
		SeverityNumber:       severityNumbers[f.severity],
		SeverityText:         strings.ToUpper(f.severity),
		EventName:            eventName(r),
		Body:                 &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: string(r.body)}},
		Attributes:           []*commonv1.KeyValue{attribute("breakglass.id", r.id()), attribute("breakglass.kind", r.entry.Kind)},
	}
	if r.note == nil {
		out.Attributes = append(out.Attributes, &commonv1.KeyValue{
			Key: "breakglass.seq", Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_IntValue{IntValue: int64(r.entry.Seq)}},
		})
	}
	for _, a := range f.attributes {
		if a[1] != "" {
			out.Attributes = append(out.Attributes, attribute("breakglass."+a[0], a[1]))
		}
	}
	return out
}

func attribute(key, value string) *commonv1.KeyValue {
	return &commonv1.KeyValue{Key: key, Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: value}}}
}

var severityNumbers = map[string]logsv1.SeverityNumber{
	"info":     logsv1.SeverityNumber_SEVERITY_NUMBER_INFO,
	"warning":  logsv1.SeverityNumber_SEVERITY_NUMBER_WARN,
	"critical": logsv1.SeverityNumber_SEVERITY_NUMBER_FATAL,
}

// eventName is the name of a kind of entries outside: the event name of OTLP, the
// type of CloudEvents.
func eventName(r *record) string { return "dev.breakglass.log." + r.entry.Kind }

// alarmSeverities are those of alarms.
var alarmSeverities = map[string]bool{"info": true, "warning": true, "critical": true}

// severityOf is that of an alarm; of other entries by their kind.
func severityOf(kind, alarm string) string {
	if alarmSeverities[alarm] {
		return alarm
	}
	switch kind {
	case audit.KindGap, audit.KindProblem, audit.KindClock:
		return "warning"
	}
	return "info"
}
