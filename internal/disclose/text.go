package disclose

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
)

// privateMembers of a JSON Web Key: RFC 7518 section 6, and that of newer types.
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

var privatePEM = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY.*?(-----END [A-Z0-9 ]*-----|$)`)

// suspicious: only a manifest with one of these can have a key in it. The escape is
// one of JSON within JSON; binaryData is base64, in which nothing shows.
func suspicious(manifest []byte) bool {
	return mayHoldKeys(string(manifest)) || bytes.Contains(manifest, []byte("PRIVATE KEY")) || bytes.Contains(manifest, []byte(`"binaryData"`))
}

func mayHoldKeys(s string) bool { return namesKeys(s) || strings.Contains(s, `\u`) }

func namesKeys(s string) bool {
	return strings.Contains(s, "kty") || strings.Contains(s, `"keys"`) || strings.Contains(s, `\"keys\"`)
}

// withhold replaces what is private in v, and returns it. listed: v is of a list of
// keys, and so a key itself.
func withhold(v any, listed bool) any {
	switch v := v.(type) {
	case string:
		return text(v)
	case []any:
		for i, item := range v {
			v[i] = withhold(item, listed)
		}
	case map[string]any:
		_, typed := v["kty"]
		for name, item := range v {
			if (typed || listed) && slices.Contains(privateMembers, strings.ToLower(name)) {
				v[name] = Withheld
				continue
			}
			v[name] = withhold(item, name == "keys")
		}
	}
	return v
}

// text as it is told: the same, if nothing in it is private.
func text(s string) string {
	s = privatePEM.ReplaceAllString(s, Withheld)
	if !mayHoldKeys(s) {
		return s
	}
	v, err := jwks.DecodeObject([]byte(s))
	if err != nil {
		// A key set that is broken, perhaps, or that can be read in two ways: nobody
		// can tell what is private in it.
		if namesKeys(s) || json.Valid([]byte(s)) {
			return Withheld
		}
		return s
	}
	before, err := json.Marshal(v)
	if err != nil {
		return Withheld
	}
	after, err := json.Marshal(withhold(v, false))
	if err != nil {
		return Withheld
	}
	if bytes.Equal(before, after) {
		return s
	}
	return string(after)
}
