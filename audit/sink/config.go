package sink

import (
	"fmt"
	"os"
	"slices"
	"time"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// Encodings of entries.
const (
	Native = "Native" // the line of the log, byte for byte
	OCSF   = "OCSF"   // an event of the Open Cybersecurity Schema Framework
)

// Where a sink begins that has no cursor yet.
const (
	FromBeginning = "Beginning"
	FromNow       = "Now"
)

// Config is the file of --sinks.
type Config struct {
	Sinks []Sink `json:"sinks"`
}

// Sink is one receiver. Exactly one of OTLP, CloudEvents, JSONLines and
// Alertmanager is set.
type Sink struct {
	// Name is 1 to 63 of a-z, 0-9 and -, and names its cursor: a sink with another
	// name begins anew.
	Name string `json:"name"`
	// Kinds of entries that it gets; none: all. An Alertmanager gets alarms only.
	Kinds []string `json:"kinds,omitempty"`
	// Encoding is Native (default) or OCSF.
	Encoding string `json:"encoding,omitempty"`
	// From says where a sink begins that has no cursor yet: at the Beginning of what
	// there is of the log, or Now. Default Beginning; of one that gets alarms only, Now.
	From string `json:"from,omitempty"`

	OTLP         *OTLP         `json:"otlp,omitempty"`
	CloudEvents  *CloudEvents  `json:"cloudEvents,omitempty"`
	JSONLines    *JSONLines    `json:"jsonLines,omitempty"`
	Alertmanager *Alertmanager `json:"alertmanager,omitempty"`
}

// OTLP is a receiver of OpenTelemetry logs, such as a collector.
type OTLP struct {
	// Endpoint is an https URL; /v1/logs is added to it for HTTP, as for
	// OTEL_EXPORTER_OTLP_ENDPOINT.
	Endpoint string `json:"endpoint"`
	// Protocol is HTTP (default) or GRPC.
	Protocol string `json:"protocol,omitempty"`
	// HeadersFile has a header a line, "name: value", such as credentials.
	HeadersFile string `json:"headersFile,omitempty"`
	// CAFile has the authorities of the receiver, in PEM. Default those of the system.
	CAFile string `json:"caFile,omitempty"`
	// AllowPlaintext permits http to another host than this one.
	AllowPlaintext bool `json:"allowPlaintext,omitempty"`
}

// CloudEvents is a webhook (CloudEvents 1.0, HTTP binding).
type CloudEvents struct {
	// URL is https.
	URL string `json:"url"`
	// Mode is Binary (default: one event a request, the line itself the body) or Batch.
	Mode string `json:"mode,omitempty"`
	// SecretFile has one or two secrets, a line each, with which requests are signed
	// as the Standard Webhooks specification says: "whsec_" and base64.
	SecretFile string `json:"secretFile,omitempty"`
	// CAFile has the authorities of the receiver, in PEM. Default those of the system.
	CAFile string `json:"caFile,omitempty"`
	// AllowPlaintext permits http to another host than this one.
	AllowPlaintext bool `json:"allowPlaintext,omitempty"`
}

// JSONLines is a file that is appended to.
type JSONLines struct {
	Path string `json:"path"`
}

// Alertmanager gets alarms (API v2).
type Alertmanager struct {
	// URL is https, of Alertmanager itself; /api/v2/alerts is added to it.
	URL string `json:"url"`
	// CAFile has the authorities of the receiver, in PEM. Default those of the system.
	CAFile string `json:"caFile,omitempty"`
	// TokenFile has a bearer token.
	TokenFile string `json:"tokenFile,omitempty"`
	// AllowPlaintext permits http to another host than this one.
	AllowPlaintext bool `json:"allowPlaintext,omitempty"`
}

// Load reads and checks the file, and fills in what has a default.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the sinks (--sinks): %w", err)
	}
	c, err := Parse(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse checks the text of the file, and fills in what has a default.
func Parse(text []byte) (Config, error) {
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return Config{}, fmt.Errorf("not YAML: %w", err)
	}
	var c Config
	// Not encoding/json: that takes any case, and does not say where an unknown field is.
	strict, err := kjson.UnmarshalStrict(raw, &c)
	if err != nil {
		return Config{}, fmt.Errorf("not a file of sinks: %w", err)
	}
	if len(strict) > 0 {
		return Config{}, fmt.Errorf("%w: correct or remove it", strict[0])
	}
	return c, c.validate()
}

// AlarmsOnly: it gets alarms and nothing else.
func (s *Sink) AlarmsOnly() bool { return len(s.Kinds) == 1 && s.Kinds[0] == audit.KindAlarm }

// Alarms says whether somebody may be told by this sink: it gets alarms, and is no
// file that nobody need look at.
func (s *Sink) Alarms() bool { return s.takes(audit.KindAlarm) && s.JSONLines == nil }

func (s *Sink) takes(kind string) bool { return len(s.Kinds) == 0 || slices.Contains(s.Kinds, kind) }

// AlarmSinks are the names of those by which somebody may be told.
func (c *Config) AlarmSinks() (names []string) {
	for _, s := range c.Sinks {
		if s.Alarms() {
			names = append(names, s.Name)
		}
	}
	return names
}

// Patience is how long each of these may take for an alarm until somebody else should
// hear that it does not take it. One that gets everything else as well may have a
// queue.
func (c *Config) Patience() map[string]time.Duration {
	out := map[string]time.Duration{}
	for i := range c.Sinks {
		s := &c.Sinks[i]
		if out[s.Name] = 10 * time.Second; s.AlarmsOnly() || s.Alertmanager != nil {
			out[s.Name] = 700 * time.Millisecond
		}
	}
	return out
}
