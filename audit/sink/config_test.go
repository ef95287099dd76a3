package sink

import (
	"slices"
	"strings"
	"testing"
)

func TestAFileOfSinksIsReadStrictly(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"all forms", `
sinks:
- {name: a, otlp: {endpoint: "https://collector:4318", headersFile: /etc/h, caFile: /etc/ca}}
- {name: b, encoding: OCSF, kinds: [request, alarm], cloudEvents: {url: "https://x/hook", secretFile: /etc/s}}
- {name: c, jsonLines: {path: /var/log/copy.jsonl}}
- {name: d, alertmanager: {url: "http://127.0.0.1:9093"}}
- {name: e, otlp: {endpoint: "http://collector:4317", protocol: GRPC, allowPlaintext: true}}`, ""},
		{"no sink", `sinks: []`, "there is none"},
		{"a field that is not known", `sinks: [{name: a, otpl: {}}]`, `unknown field "sinks[0].otpl"`},
		{"a field twice", "sinks: []\nsinks: []", "already set"},
		{"no name", `sinks: [{jsonLines: {path: /x}}]`, `sinks[0].name: ""`},
		{"a name of a path", `sinks: [{name: ../a, jsonLines: {path: /x}}]`, `name: "../a"`},
		{"a name twice", `sinks: [{name: a, jsonLines: {path: /x}}, {name: a, jsonLines: {path: /y}}]`, "sinks[1] (a).name: another sink has it"},
		{"no receiver", `sinks: [{name: a}]`, "sinks[0] (a).otlp: 0 of"},
		{"two receivers", `sinks: [{name: a, jsonLines: {path: /x}, otlp: {endpoint: "https://x"}}]`, "2 of otlp"},
		{"a relative path", `sinks: [{name: a, jsonLines: {path: x}}]`, `jsonLines.path: "x": must be an absolute path`},
		{"a file of two", `sinks: [{name: a, jsonLines: {path: /x}}, {name: b, jsonLines: {path: /y/../x}}]`, "sinks[1] (b).jsonLines.path: another sink has the file"},
		{"another encoding", `sinks: [{name: a, encoding: CEF, jsonLines: {path: /x}}]`, `encoding: "CEF": must be Native or OCSF`},
		{"http to another host", `sinks: [{name: a, cloudEvents: {url: "http://example.com/secret"}}]`, "cloudEvents.url: at example.com: must be https"},
		{"credentials over http", `sinks: [{name: a, alertmanager: {url: "http://am:9093", allowPlaintext: true, tokenFile: /t}}]`, "credentials do not go over http"},
		{"credentials in the URL", `sinks: [{name: a, cloudEvents: {url: "https://me:secret@example.com/"}}]`, "credentials do not go into a URL"},
		{"requests to an Alertmanager", `sinks: [{name: a, kinds: [request], alertmanager: {url: "https://am"}}]`, "kinds: an Alertmanager gets alarms"},
		{"a path with gRPC", `sinks: [{name: a, otlp: {endpoint: "https://x/v1/logs", protocol: GRPC}}]`, "a path goes with HTTP only"},
	} {
		_, err := Parse([]byte(c.in))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells a secret: %v", c.name, err)
		}
	}
}

func TestASinkOfAlarmsBeginsNowAndALogsAtItsBeginning(t *testing.T) {
	c, err := Parse([]byte(`
sinks:
- {name: a, alertmanager: {url: "https://am"}}
- {name: b, kinds: [alarm], cloudEvents: {url: "https://x"}}
- {name: c, kinds: [alarm], jsonLines: {path: /x}}
- {name: d, cloudEvents: {url: "https://x"}}
- {name: e, from: Now, kinds: [request], cloudEvents: {url: "https://x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var from []string
	for _, s := range c.Sinks {
		from = append(from, s.From)
	}
	if want := []string{"Now", "Now", "Now", "Beginning", "Now"}; !slices.Equal(from, want) {
		t.Errorf("%v, want %v", from, want)
	}
	// Nobody need look at a file, and c is no way to be told.
	if got := c.AlarmSinks(); !slices.Equal(got, []string{"a", "b", "d"}) {
		t.Errorf("sinks of alarms %v", got)
	}
}
