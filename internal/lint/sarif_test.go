package lint

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// checkObject compares a value with what SARIF 2.1.0 says of the object: the
// properties that it requires, and those it knows of the ones in use here. The
// specification allows none beside them (additionalProperties: false).
func checkObject(t *testing.T, at string, v any, required, known []string) map[string]any {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s is no object", at)
	}
	for _, k := range required {
		if m[k] == nil {
			t.Errorf("%s: property %s is required", at, k)
		}
	}
	for k := range m {
		if !slices.Contains(required, k) && !slices.Contains(known, k) {
			t.Errorf("%s: property %s does not exist", at, k)
		}
	}
	return m
}

func items(t *testing.T, v any) []any {
	t.Helper()
	l, ok := v.([]any)
	if !ok {
		t.Fatalf("%v is no list", v)
	}
	return l
}

// Sections are those of the OASIS standard.
func TestSARIFHasTheStructureOfTheStandard(t *testing.T) {
	in := wide(t)
	in.Live = troubled()
	report := Run(in)
	report.Findings[0].Suppressed = "reviewed"
	report.Findings[1].File = "a dir/ü.yaml"
	text, err := json.Marshal(SARIF(report, "v1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	log := checkObject(t, "sarifLog (3.13)", v, []string{"version", "runs"}, []string{"$schema"})
	if log["version"] != "2.1.0" {
		t.Errorf("version %v (3.13.2)", log["version"])
	}
	run := checkObject(t, "run (3.14)", items(t, log["runs"])[0], []string{"tool"}, []string{"results", "columnKind"})
	driver := checkObject(t, "toolComponent (3.19)", checkObject(t, "tool (3.18)", run["tool"], []string{"driver"}, nil)["driver"],
		[]string{"name"}, []string{"version", "informationUri", "rules"})
	var ids []string
	for _, r := range items(t, driver["rules"]) {
		rule := checkObject(t, "reportingDescriptor (3.49)", r, []string{"id"}, []string{"name", "shortDescription", "help", "defaultConfiguration"})
		checkObject(t, "multiformatMessageString (3.12)", rule["shortDescription"], []string{"text"}, nil)
		checkObject(t, "multiformatMessageString (3.12)", rule["help"], []string{"text"}, nil)
		checkLevel(t, checkObject(t, "reportingConfiguration (3.50)", rule["defaultConfiguration"], nil, []string{"level"})["level"])
		ids = append(ids, fmt.Sprint(rule["id"]))
	}
	results := items(t, run["results"])
	if len(results) != len(report.Findings) {
		t.Fatalf("%d results of %d findings", len(results), len(report.Findings))
	}
	for i, r := range results {
		checkResult(t, r, ids, report.Findings[i])
	}
}

func checkLevel(t *testing.T, level any) {
	t.Helper()
	if !slices.Contains([]any{"none", "note", "warning", "error"}, level) {
		t.Errorf("level %v (3.27.10)", level)
	}
}

func checkResult(t *testing.T, v any, ids []string, f Finding) {
	t.Helper()
	r := checkObject(t, "result (3.27)", v, []string{"message"}, []string{"ruleId", "ruleIndex", "level", "locations", "partialFingerprints", "suppressions"})
	checkObject(t, "message (3.11)", r["message"], []string{"text"}, nil)
	checkLevel(t, r["level"])
	if n := int(r["ruleIndex"].(float64)); ids[n] != r["ruleId"] || r["ruleId"] != f.ID {
		t.Errorf("rule %v, index %d is %s (3.27.6)", r["ruleId"], n, ids[n])
	}
	if (r["suppressions"] != nil) != (f.Suppressed != "") {
		t.Errorf("%s: suppressions %v (3.27.23)", f.ID, r["suppressions"])
	}
	if r["suppressions"] != nil {
		s := checkObject(t, "suppression (3.35)", items(t, r["suppressions"])[0], []string{"kind"}, []string{"status", "justification"})
		if s["kind"] != "inSource" || s["status"] != "accepted" || s["justification"] != f.Suppressed {
			t.Errorf("suppression %v", s)
		}
	}
	if r["locations"] == nil {
		return
	}
	loc := checkObject(t, "location (3.28)", items(t, r["locations"])[0], nil, []string{"physicalLocation", "logicalLocations"})
	if loc["physicalLocation"] == nil {
		return
	}
	p := checkObject(t, "physicalLocation (3.29)", loc["physicalLocation"], []string{"artifactLocation"}, []string{"region"})
	uri := checkObject(t, "artifactLocation (3.4)", p["artifactLocation"], nil, []string{"uri"})["uri"].(string)
	if u, err := url.Parse(uri); err != nil || strings.ContainsAny(uri, " ü") || u.Path != f.File {
		t.Errorf("uri %q of %q (3.4.3): %v", uri, f.File, err)
	}
	if p["region"] != nil {
		if n := checkObject(t, "region (3.30)", p["region"], nil, []string{"startLine"})["startLine"].(float64); n < 1 {
			t.Errorf("startLine %v (3.30.5)", n)
		}
	}
}
