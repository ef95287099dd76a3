package audit

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxField bounds every string of a RequestEntry, in bytes.
const maxField = 2 << 10

var (
	// jwtLike finds the encoded header of a JWS ("eyJ" is `{"`) and what
	// follows it, wherever a client put it.
	jwtLike = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*`)
	// matrix finds path parameters: ";jsessionid=...".
	matrix   = regexp.MustCompile(`;([^=/;]*)=[^/;]*`)
	queryKey = regexp.MustCompile(`^[A-Za-z0-9_.\-\[\]%]{1,64}$`)
)

const redacted = "redacted"

// clean makes s valid UTF-8 without control characters, takes out what looks
// like a token, and bounds the length.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.Contains(s, "eyJ") {
		s = jwtLike.ReplaceAllString(s, redacted)
	}
	s = strings.Map(func(r rune) rune {
		// Terminals obey them: a path must not rewrite what `timeline` shows.
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return utf8.RuneError
		}
		return r
	}, s)
	return bound(s)
}

// Text is what may be kept of what somebody wrote: valid UTF-8 on one line, without
// what looks like a token, and at most most bytes, of at least 8.
func Text(s string, most int) string { return boundTo(clean(s), most) }

func bound(s string) string { return boundTo(s, maxField) }

func boundTo(s string, most int) string {
	const more = "…"
	if len(s) <= most {
		return s
	}
	n := most - len(more)
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + more
}

// redactPath keeps the path and the names of query parameters. Values, and
// names that do not look like names, become "redacted".
func redactPath(p string) string {
	p, _, hasFragment := strings.Cut(p, "#")
	path, query, hasQuery := strings.Cut(p, "?")
	path = matrix.ReplaceAllString(path, ";$1="+redacted)
	var b strings.Builder
	b.WriteString(path)
	if hasQuery {
		b.WriteByte('?')
		for i, param := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' }) {
			if b.Len() > 2*maxField {
				break // longer than what is kept
			}
			if i > 0 {
				b.WriteByte('&')
			}
			// A word without "=" may be a value: a bare API key.
			if name, _, ok := strings.Cut(param, "="); ok && queryKey.MatchString(name) {
				b.WriteString(name)
				b.WriteByte('=')
			}
			b.WriteString(redacted)
		}
	}
	if hasFragment {
		b.WriteString("#" + redacted)
	}
	return clean(b.String())
}

// redactHost takes credentials out of an authority.
func redactHost(h string) string {
	if i := strings.LastIndexByte(h, '@'); i >= 0 {
		h = redacted + h[i:]
	}
	return clean(h)
}

var (
	// Of a string in a line of JSON: on to its end, which is not a quote that is
	// escaped.
	jsonQuery    = regexp.MustCompile(`(?s)\?(?:[^"\\]|\\.)*`)
	jsonUserInfo = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*@`)
	// jsonRest is what a line without its beginning has of the string in which it
	// begins. A first quote may be an escaped one, the backslash before it lost.
	jsonRest = regexp.MustCompile(`(?s)^\\*"?(?:[^"\\]|\\.)*`)
)

// Fragment is what may be kept of the beginning of a line that is no row: what
// may be a part of a query or of credentials is not, also where it lacks its
// beginning or its end.
func Fragment(b []byte) string {
	const read = 1 << 10
	s := string(b[:min(len(b), read)])
	if !strings.HasPrefix(s, `{"`) {
		s = redacted + jsonRest.ReplaceAllString(s, "")
	}
	s = jsonQuery.ReplaceAllString(s, "?"+redacted)
	s = jsonUserInfo.ReplaceAllString(s, `"`+redacted+"@")
	s = matrix.ReplaceAllString(s, ";$1="+redacted)
	return brief(clean(s))
}

var errWire = errors.New("not the wire format of protobuf")

// validUTF8 copies an encoded message and makes its strings valid UTF-8.
func validUTF8(b []byte, md protoreflect.MessageDescriptor, depth int) ([]byte, error) {
	if depth > 100 {
		return nil, errWire
	}
	var out []byte
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, errWire
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return nil, errWire
		}
		fd := md.Fields().ByNumber(num)
		if typ != protowire.BytesType || fd == nil ||
			fd.Kind() != protoreflect.StringKind && fd.Kind() != protoreflect.MessageKind {
			out = append(out, b[:n+m]...)
			b = b[n+m:]
			continue
		}
		v, _ := protowire.ConsumeBytes(b[n:])
		if fd.Kind() == protoreflect.StringKind {
			v = []byte(strings.ToValidUTF8(string(v), "\uFFFD"))
		} else {
			var err error
			if v, err = validUTF8(v, fd.Message(), depth+1); err != nil {
				return nil, err
			}
		}
		out = protowire.AppendBytes(protowire.AppendTag(out, num, protowire.BytesType), v)
		b = b[n+m:]
	}
	return out, nil
}
