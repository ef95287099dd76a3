package report

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// The classes of what a report shows.
const (
	Person      = "person"      // subjects, who asked, revoked, reviewed, read, owns a manifest
	Address     = "client"      // addresses of clients, also in texts
	TokenID     = "token"       // jti
	Certificate = "certificate" // of a client
	Host        = "host"
	Path        = "path"
	Backend     = "backend" // addresses that requests went to
	Text        = "text"    // reasons, notes, follow-ups, messages
)

// Classes are all of them.
var Classes = []string{Person, Address, TokenID, Certificate, Host, Path, Backend, Text}

// What is done with a class.
const (
	Keep      = "keep"
	Pseudonym = "pseudonym"
	Network   = "network" // of addresses: the network, and a pseudonym
	Remove    = "remove"
)

// Policy says what of the log a report shows. What is not named is kept.
type Policy struct {
	Name   string
	Fields map[string]string
	// Key makes pseudonyms the same in each report. Nil: numbers, in the order of the
	// log.
	Key []byte
}

func (p Policy) mode(class string) string {
	if m := p.Fields[class]; m != "" {
		return m
	}
	return Keep
}

// Policies by name.
var Policies = map[string]Policy{
	"none": {Name: "none"},
	// Who and what stays, for whoever judges it. Where people sat, and the inner
	// network, is nothing that the judgement needs.
	"standard": {Name: "standard", Fields: map[string]string{Address: Network, TokenID: Pseudonym, Certificate: Pseudonym, Backend: Pseudonym}},
	// For whoever is not to know the people and the systems.
	"strict": {Name: "strict", Fields: map[string]string{
		Person: Pseudonym, Address: Pseudonym, TokenID: Pseudonym, Certificate: Pseudonym, Host: Pseudonym, Path: Pseudonym, Backend: Remove, Text: Remove,
	}},
}

// ParsePolicy reads a policy, and the name of the file of its key, if any.
func ParsePolicy(b []byte) (p Policy, keyFile string, err error) {
	var f struct {
		Fields  map[string]string `json:"fields"`
		KeyFile string            `json:"keyFile"`
	}
	if err := yaml.UnmarshalStrict(b, &f); err != nil {
		return p, "", fmt.Errorf("not a redaction policy, which is YAML with fields and keyFile: %w", err)
	}
	for class, mode := range f.Fields {
		modes := []string{Keep, Pseudonym, Remove}
		if class == Address {
			modes = append(modes, Network)
		}
		switch {
		case !slices.Contains(Classes, class):
			return p, "", fmt.Errorf("fields.%s: there is no such class; choose of %s", class, strings.Join(Classes, ", "))
		case !slices.Contains(modes, mode):
			return p, "", fmt.Errorf("fields.%s: %q: choose of %s", class, mode, strings.Join(modes, ", "))
		}
	}
	p = Policy{Name: "file", Fields: f.Fields}
	if p.mode(Text) != Remove {
		for _, class := range []string{Person, Host, Path} {
			if p.mode(class) != Keep {
				return p, "", fmt.Errorf("fields.%s is %s and fields.text is not remove: reasons, messages and notes may name what is hidden elsewhere; set fields.text: remove", class, p.mode(class))
			}
		}
	}
	return p, f.KeyFile, nil
}

// minKey of a file of a key, in bytes.
const minKey = 16

// ParseKey takes the content of a key file.
func ParseKey(b []byte) ([]byte, error) {
	if b = []byte(strings.TrimSpace(string(b))); len(b) < minKey {
		return nil, errors.New("a key has at least 16 bytes: make one with `openssl rand -hex 32`")
	}
	return b, nil
}

// redaction as the report tells it.
func (p Policy) redaction() Redaction {
	r := Redaction{Policy: p.Name, Fields: map[string]string{}, Keyed: len(p.Key) > 0}
	var did []string
	for _, class := range Classes {
		r.Fields[class] = p.mode(class)
		if m := p.mode(class); m != Keep {
			did = append(did, class+": "+m)
		}
	}
	if len(did) == 0 {
		r.Words = "Nothing: all is as the log has it. The log itself holds no tokens, no query values, no headers and no bodies."
		return r
	}
	r.Words = strings.Join(did, ", ") + ". The same value has the same pseudonym everywhere in this report"
	if r.Keyed {
		r.Words += ", and in others that were made with the same key"
	}
	r.Words += "; the entries, by their seq, have the rest."
	return r
}
