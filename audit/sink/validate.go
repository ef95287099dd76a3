package sink

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

var (
	validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	validKind = regexp.MustCompile(`^[a-z]{1,32}$`)
)

// validate fills in defaults, and says all that is wrong: sink, field, what to do.
func (c *Config) validate() error {
	var errs []error
	if len(c.Sinks) == 0 {
		errs = append(errs, errors.New("sinks: there is none: name one, or leave --sinks out"))
	}
	names, paths := map[string]bool{}, map[string]bool{}
	for i := range c.Sinks {
		s := &c.Sinks[i]
		at := fmt.Sprintf("sinks[%d]", i)
		if s.Name != "" {
			at = fmt.Sprintf("sinks[%d] (%s)", i, s.Name)
		}
		wrong := func(field, format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s.%s: %s", at, field, fmt.Sprintf(format, args...)))
		}
		switch {
		case !validName.MatchString(s.Name):
			wrong("name", "%q: must be 1 to 63 of a-z, 0-9 and -; it names the sink's cursor", s.Name)
		case names[s.Name]:
			wrong("name", "another sink has it: choose another, each has a cursor by its name")
		}
		names[s.Name] = true
		if s.JSONLines != nil {
			if path := filepath.Clean(s.JSONLines.Path); paths[path] {
				wrong("jsonLines.path", "another sink has the file: name another")
			} else {
				paths[path] = true
			}
		}
		s.validate(wrong)
	}
	return errors.Join(errs...)
}

type wrong = func(field, format string, args ...any)

func (s *Sink) validate(wrong wrong) {
	if n := s.receivers(); n != 1 {
		wrong("otlp", "%d of otlp, cloudEvents, jsonLines and alertmanager are set: set exactly one", n)
	}
	if s.Alertmanager != nil && len(s.Kinds) == 0 {
		s.Kinds = []string{audit.KindAlarm}
	}
	for _, k := range s.Kinds {
		if !validKind.MatchString(k) {
			wrong("kinds", "%q: must be kinds of entries, such as alarm, activation, request", k)
		}
	}
	choose(wrong, "encoding", &s.Encoding, Native, OCSF)
	if s.AlarmsOnly() {
		choose(wrong, "from", &s.From, FromNow, FromBeginning)
	} else {
		choose(wrong, "from", &s.From, FromBeginning, FromNow)
	}
	switch {
	case s.OTLP != nil:
		s.OTLP.validate(wrong)
	case s.CloudEvents != nil:
		s.CloudEvents.validate(wrong)
	case s.JSONLines != nil:
		if !filepath.IsAbs(s.JSONLines.Path) {
			wrong("jsonLines.path", "%q: must be an absolute path", s.JSONLines.Path)
		}
	case s.Alertmanager != nil:
		s.Alertmanager.validate(wrong)
		if !s.AlarmsOnly() {
			wrong("kinds", "an Alertmanager gets alarms: leave kinds out")
		}
		if s.Encoding == OCSF {
			wrong("encoding", "an Alertmanager has a form of its own: leave encoding out")
		}
	}
}

func (s *Sink) receivers() (n int) {
	for _, set := range []bool{s.OTLP != nil, s.CloudEvents != nil, s.JSONLines != nil, s.Alertmanager != nil} {
		if set {
			n++
		}
	}
	return n
}

func (a *Alertmanager) validate(wrong wrong) {
	checkURL(wrong, "alertmanager.url", a.URL, a.AllowPlaintext, a.TokenFile)
	absolute(wrong, "alertmanager.caFile", a.CAFile)
	absolute(wrong, "alertmanager.tokenFile", a.TokenFile)
}

func (o *OTLP) validate(wrong wrong) {
	choose(wrong, "otlp.protocol", &o.Protocol, "HTTP", "GRPC")
	checkURL(wrong, "otlp.endpoint", o.Endpoint, o.AllowPlaintext, o.HeadersFile)
	if u, err := url.Parse(o.Endpoint); err == nil && o.Protocol == "GRPC" && strings.Trim(u.Path, "/") != "" {
		wrong("otlp.endpoint", "%q: a path goes with HTTP only: remove it", u.Path)
	}
	absolute(wrong, "otlp.headersFile", o.HeadersFile)
	absolute(wrong, "otlp.caFile", o.CAFile)
}

func (c *CloudEvents) validate(wrong wrong) {
	choose(wrong, "cloudEvents.mode", &c.Mode, "Binary", "Batch")
	checkURL(wrong, "cloudEvents.url", c.URL, c.AllowPlaintext, "")
	absolute(wrong, "cloudEvents.secretFile", c.SecretFile)
	absolute(wrong, "cloudEvents.caFile", c.CAFile)
}

// choose checks a choice, of which the first is the default.
func choose(wrong wrong, field string, v *string, choices ...string) {
	if *v == "" {
		*v = choices[0]
	}
	for _, c := range choices {
		if *v == c {
			return
		}
	}
	wrong(field, "%q: must be %s", *v, strings.Join(choices, " or "))
}

func absolute(wrong wrong, field, path string) {
	if path != "" && !filepath.IsAbs(path) {
		wrong(field, "%q: must be an absolute path", path)
	}
}

// checkURL never shows the path and the query: either may be a secret.
func checkURL(wrong wrong, field, s string, plaintext bool, credentials string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		wrong(field, "must be an https URL")
	case u.User != nil:
		wrong(field, "at %s: credentials do not go into a URL: name a file that has them", u.Host)
	case u.Fragment != "":
		wrong(field, "at %s: a URL with a fragment: remove it", u.Host)
	case u.Scheme == "https" || merkle.Loopback(u.Hostname()):
	case !plaintext:
		wrong(field, "at %s: must be https: entries name people and what they did (http to this host only; allowPlaintext: true permits it)", u.Host)
	case credentials != "":
		wrong(field, "at %s: credentials do not go over http: use https, or remove them", u.Host)
	}
}
