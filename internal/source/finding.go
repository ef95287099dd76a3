package source

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// finding is a Problem before it is known where in which file it is.
type finding struct {
	path, message, remedy string
}

type findings struct{ list []finding }

func (f *findings) add(path, message, remedy string) {
	f.list = append(f.list, finding{path, message, remedy})
}

// addErrors takes over what the API server's validation found. No value is
// repeated but one that should have been of an enumeration: values may be
// secret, and a line number shows them better.
func (f *findings) addErrors(errs field.ErrorList, s *schema.Structural) {
	invalid := map[string]bool{}
	for _, err := range errs {
		detail := cleanDetail(err.Detail, err.Field)
		if rest, ok := strings.CutPrefix(detail, "Checked value must be of type "); ok {
			// Of a number's format; the only error that has its path in its text.
			if _, path, _ := strings.Cut(rest, " in "); !invalid[path] {
				f.add(path, "is not a whole number, or out of range", "correct the value")
			}
			continue
		}
		// A rule that stumbles over a value that its schema refuses anyway.
		if _, message, stumbled := strings.Cut(detail, "evaluating rule: "); stumbled {
			if invalid[err.Field] {
				continue
			}
			detail = message
		}
		invalid[err.Field] = true
		f.list = append(f.list, fromError(err, detail, s))
	}
}

func fromError(err *field.Error, detail string, s *schema.Structural) finding {
	switch err.Type {
	case field.ErrorTypeRequired:
		return finding{err.Field, "is required", "add it"}
	case field.ErrorTypeNotSupported:
		_, values, _ := strings.Cut(detail, "supported values: ")
		if text, ok := err.BadValue.(string); ok && len(text) <= maxShown {
			return finding{err.Field, fmt.Sprintf("%q is not supported", text), "write one of " + values}
		}
		return finding{err.Field, "is not supported", "write one of " + values}
	case field.ErrorTypeTooLong:
		return finding{err.Field, detail, "shorten it"}
	case field.ErrorTypeTooMany:
		return finding{err.Field, detail, "remove some"}
	case field.ErrorTypeDuplicate:
		return finding{err.Field, "is there twice", "remove or rename one of the two"}
	case field.ErrorTypeTypeInvalid:
		return typeFinding(err.Field, detail)
	}
	return ruleFinding(err.Field, detail, s)
}

// maxShown bounds a value that is shown in a message.
const maxShown = 80

var inBody = regexp.MustCompile(`^\S* ?in body `)

// cleanDetail takes off what kube-openapi puts before its messages: the path,
// and that it was in the body of a request.
func cleanDetail(detail, path string) string {
	if rest, ok := strings.CutPrefix(detail, path+" in body "); ok {
		return rest
	}
	// Examples and the expression again, as text.
	detail, _, _ = strings.Cut(detail, " (e.g. ")
	return inBody.ReplaceAllString(detail, "")
}

var typeWords = map[string]string{
	"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
	"array": "a list", "object": "an object", "null": "null",
}

func typeFinding(path, detail string) finding {
	want, got, ok := strings.Cut(strings.TrimPrefix(detail, "must be of type "), ": ")
	if want == "date-time" {
		return finding{path, notATime, timeRemedy}
	}
	want, got = typeWords[want], typeWords[strings.Trim(got, `"`)]
	if !ok || want == "" || got == "" {
		return finding{path, "is of the wrong type", "correct the value"}
	}
	return finding{path, "must be " + want + ", not " + got, typeRemedy(want)}
}

const (
	notATime   = "is not a time"
	timeRemedy = "write it such as 2026-01-31T15:04:05Z"
)

func typeRemedy(want string) string {
	if want == "text" {
		return "put it in quotes"
	}
	return "write " + want
}

// durationPattern is the schema of a Gateway API Duration (GEP-2257).
const durationPattern = `^([0-9]{1,5}(h|m|s|ms)){1,4}$`

// remedies for the rules of the Gateway API, whose messages say what is wrong
// and leave the rest to the reader. The first that fits is used.
var remedies = []struct{ part, remedy string }{
	{"start with '/'", "begin the path with /"},
	{"cannot be repeated", "merge the filters of this type into one"},
	{"must not be used together with backendRefs", "remove the backendRefs or the filter"},
	{"unique", "rename or remove one of the two"},
	{"must be specified", "add it"},
	{"must not be specified", "remove it"},
	{"must be nil if", "remove it, or correct type"},
	{"must not contain", "remove it from the value"},
	{"must not end with", "remove it from the value"},
	{"a-z_0-9", "correct the name"}, // of a service or a method of gRPC
	{"valid characters", "percent-encode other characters"},
	{"Must have port", "add port"},
	{"but not both", "remove one of the two"},
	{"cannot be longer than", "shorten it"},
	{"at least 1 chars", "write a value, or remove the field"},
	{"at least 1 items", "add one"},
	{"must be at least", "write a larger value"},
	{"must not exceed", "write a smaller value"},
	{"less than or equal", "write a smaller value"},
	{"greater than or equal", "write a larger value"},
	{"twice", "remove one"},
	{"not allowed on this type", "remove it"},
}

// ruleFinding is for patterns, bounds and CEL rules.
func ruleFinding(path, detail string, s *schema.Structural) finding {
	if pattern, ok := strings.CutPrefix(detail, "should match "); ok {
		if strings.Trim(pattern, "'") == durationPattern {
			return finding{path, "is not a duration", "write it such as 15m or 1h30m"}
		}
		return finding{path, "does not match " + pattern, "correct the value so that it does"}
	}
	// A rule on an object that speaks of one of its fields.
	if word, rest, ok := strings.Cut(detail, " "); ok && path != "" {
		if at := schemaAt(s, path); at != nil {
			if _, known := at.Properties[word]; known {
				path, detail = path+"."+word, rest
			}
		}
	}
	// Our own rules carry their remedy behind a colon.
	if message, remedy, ok := cutRemedy(detail); ok {
		return finding{path, message, remedy}
	}
	if strings.HasPrefix(detail, "set ") || strings.HasPrefix(detail, "say ") {
		return finding{path, detail, ""} // is its own remedy
	}
	for _, r := range remedies {
		if strings.Contains(detail, r.part) {
			return finding{path, detail, r.remedy}
		}
	}
	return finding{path, detail, "correct the value"}
}

// cutRemedy cuts at the first colon that does not stand in parentheses.
func cutRemedy(detail string) (message, remedy string, ok bool) {
	depth := 0
	for i, r := range detail {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ':' && depth == 0 && strings.HasPrefix(detail[i:], ": "):
			return detail[:i], detail[i+2:], true
		}
	}
	return detail, "", false
}

// addUnknown tells of a field that the schema does not know.
func (f *findings) addUnknown(path string, s *schema.Structural) {
	parent, name := "", path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	var known []string
	if at := schemaAt(s, parent); at != nil {
		for k := range at.Properties {
			known = append(known, k)
		}
	}
	f.unknown(path, name, known)
}

func (f *findings) unknown(path, name string, known []string) {
	slices.Sort(known)
	remedy := "remove it"
	if near := nearest(name, known); near != "" {
		remedy = "did you mean " + near + "?"
	} else if len(known) > 0 && len(known) <= 16 {
		remedy = "remove it: the fields here are " + strings.Join(known, ", ")
	}
	f.add(path, "no such field", remedy)
}

// schemaAt finds the schema of the object at path.
func schemaAt(s *schema.Structural, path string) *schema.Structural {
	for path != "" && s != nil {
		if path[0] == '[' {
			_, path, _ = strings.Cut(path, "]")
			s = s.Items
			continue
		}
		path = strings.TrimPrefix(path, ".")
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		next, ok := s.Properties[path[:end]]
		if !ok {
			return nil
		}
		s, path = &next, path[end:]
	}
	return s
}

// nearest returns the candidate that name is most likely a misspelling of, or
// nothing.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", 1+min(2, len(name)/3)
	for _, c := range candidates {
		if strings.EqualFold(name, c) {
			return c
		}
		if d := distance(name, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is Levenshtein's; long names are never near.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
