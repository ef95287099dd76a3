package lint

import (
	"net/url"
	"path/filepath"
	"slices"
)

// SARIF is a report in the Static Analysis Results Interchange Format 2.1.0
// (OASIS), as far as code review tools read it. version is that of this build.
func SARIF(r *Report, version string) any {
	log := sarifLog{
		Schema: "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", Version: "2.1.0",
		Runs: []sarifRun{{ColumnKind: "utf16CodeUnits", Results: []sarifResult{}}},
	}
	run := &log.Runs[0]
	run.Tool.Driver = sarifDriver{Name: "breakglass lint", Version: version, InformationURI: "https://github.com/breakglass-gateway/breakglass-gateway"}
	rules := Rules()
	for _, rule := range rules {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			ID: rule.ID, Name: rule.Name, ShortDescription: sarifText{rule.Summary},
			Help: sarifText{rule.Remedy}, DefaultConfiguration: sarifLevel{level(rule.Severity)},
		})
	}
	for _, f := range r.Findings {
		run.Results = append(run.Results, sarifResultOf(f, slices.IndexFunc(rules, func(r Rule) bool { return r.ID == f.ID })))
	}
	return log
}

func sarifResultOf(f Finding, rule int) sarifResult {
	res := sarifResult{
		RuleID: f.ID, RuleIndex: rule, Level: level(f.Severity), Message: sarifText{f.Text()},
		// Lines move: what makes it the same finding is what it is about.
		PartialFingerprints: map[string]string{"finding/v1": f.ID + " " + f.Object + " " + f.Field},
	}
	loc := sarifLocation{}
	if f.Object != "" {
		loc.LogicalLocations = []sarifLogical{{FullyQualifiedName: f.Object, Kind: "object"}}
	}
	if f.File != "" {
		loc.PhysicalLocation = &sarifPhysical{ArtifactLocation: sarifArtifact{URI: fileURI(f.File)}}
		if f.Line > 0 {
			loc.PhysicalLocation.Region = &sarifRegion{StartLine: f.Line}
		}
	}
	if loc.PhysicalLocation != nil || loc.LogicalLocations != nil {
		res.Locations = []sarifLocation{loc}
	}
	if f.Suppressed != "" {
		res.Suppressions = []sarifSuppression{{Kind: "inSource", Status: "accepted", Justification: f.Suppressed}}
	}
	return res
}

// level of SARIF for a severity.
func level(s Severity) string {
	if s == Info {
		return "note"
	}
	return string(s)
}

// fileURI of a file, relative if the file is.
func fileURI(file string) string {
	u := url.URL{Path: filepath.ToSlash(file)}
	if filepath.IsAbs(file) {
		u.Scheme = "file"
	}
	return u.String()
}

type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string     `json:"id"`
		Name                 string     `json:"name"`
		ShortDescription     sarifText  `json:"shortDescription"`
		Help                 sarifText  `json:"help"`
		DefaultConfiguration sarifLevel `json:"defaultConfiguration"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Level               string             `json:"level"`
		Message             sarifText          `json:"message"`
		Locations           []sarifLocation    `json:"locations,omitempty"`
		PartialFingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifLocation struct {
		PhysicalLocation *sarifPhysical `json:"physicalLocation,omitempty"`
		LogicalLocations []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
)
