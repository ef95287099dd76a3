package source

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Problem is one thing that is wrong with the manifests, told so that it can be
// put right: where it is, what it is and what to do.
type Problem struct {
	// File as it was given: the path below Options.Dir or an argument of Load.
	// Empty for an object that came by other ways.
	File string
	// Line of the offending field where it can be found, else of the object.
	// From 1; 0 when there is none.
	Line int
	// Object is "Kind namespace/name" or "Kind name". Empty if it is not known.
	Object string
	// Field as a path from the object's root, such as spec.rules[0].name.
	Field string
	// Message says what is wrong. It never holds a value of a Secret.
	Message string
	// Remedy says what to do.
	Remedy string
	// LastGood: an earlier version of the object, or of the file's objects, is
	// still in use.
	LastGood bool
}

// Error is the problem in one line: file:line: object: field: message: remedy.
func (p Problem) Error() string {
	var parts []string
	switch {
	case p.File != "" && p.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d", p.File, p.Line))
	case p.File != "":
		parts = append(parts, p.File)
	}
	for _, s := range []string{p.Object, p.Field, p.Message, p.Remedy} {
		if s != "" {
			parts = append(parts, oneLine(s))
		}
	}
	line := strings.Join(parts, ": ")
	if p.LastGood {
		line += " (the last good version stays in use)"
	}
	return line
}

func compareProblems(a, b Problem) int {
	return cmp.Or(
		cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Object, b.Object),
		cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message),
	)
}

func sortProblems(ps []Problem) []Problem {
	slices.SortFunc(ps, compareProblems)
	return slices.Compact(ps)
}

// maxText bounds what one part of a message may hold; names and patterns come
// from the manifests and may be long.
const maxText = 1024

// oneLine keeps a message on one line of a log or a terminal: a manifest must
// not be able to forge a second line or to send escape sequences.
func oneLine(s string) string {
	cut := false
	if len(s) > maxText {
		s, cut = s[:maxText], true
	}
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if cut {
		s += "..."
	}
	return s
}
