package report

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"unicode/utf8"
)

// redactor gives what the report shows in place of what the log has. A value has the
// same pseudonym in all of a report. Pseudonyms are numbers in the order in which the
// log has the values, so that they are the same each time and nothing can be guessed
// from them; with a key they are an HMAC, and the same in other reports too.
type redactor struct {
	policy Policy
	seen   map[string]map[string]string // class, value: what is shown
	named  map[string]int               // class: pseudonyms
}

func newRedactor(p Policy) *redactor {
	return &redactor{policy: p, seen: map[string]map[string]string{}, named: map[string]int{}}
}

// show a value of a class. What was shown is remembered, which also makes one string
// of many that are alike.
func (r *redactor) show(class, v string) string {
	if v == "" {
		return ""
	}
	seen := r.seen[class]
	if seen == nil {
		seen = map[string]string{}
		r.seen[class] = seen
	}
	if s, ok := seen[v]; ok {
		return s
	}
	s := r.first(class, v)
	seen[v] = s
	return s
}

func (r *redactor) first(class, v string) string {
	switch r.policy.mode(class) {
	case Pseudonym:
		return r.pseudonym(class, v)
	case Network:
		return network(v) + " " + r.pseudonym(class, v)
	case Remove:
		return "(" + class + " removed)"
	}
	return r.plain(v)
}

// pseudonym of a value that is new.
func (r *redactor) pseudonym(class, v string) string {
	if len(r.policy.Key) > 0 {
		h := hmac.New(sha256.New, r.policy.Key)
		h.Write([]byte(class + "\x00" + v))
		return class + "-" + strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)[:10]))
	}
	r.named[class]++
	return fmt.Sprintf("%s-%d", class, r.named[class])
}

func (r *redactor) shows(class string, vs []string) []string {
	out := make([]string, len(vs))
	for i, v := range vs {
		out[i] = r.show(class, v)
	}
	return out
}

// client is an address without its port.
func (r *redactor) client(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	return r.show(Address, address)
}

// labels of an alarm.
func (r *redactor) labels(in map[string]string) map[string]string {
	out := maps.Clone(in)
	for k, v := range in {
		switch k {
		case "requestedBy", "subject", "by", "reviewer":
			out[k] = r.show(Person, v)
		case "client", "clientAddress", "address":
			out[k] = r.client(v)
		case "activation", "role", "incident", "drill", "gateway", "route", "policy", "issuer", "sink", "log", "epoch":
			out[k] = r.plain(v)
		default:
			out[k] = r.show(Text, v)
		}
	}
	return out
}

var (
	// tokenLike is a JWT, or what is left of one. The log has none; this is the second
	// lock on the same door.
	tokenLike = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*`)
	// addressLike finds candidates only: netip decides.
	addressLike = regexp.MustCompile(`\[?[0-9A-Fa-f]*[:.][0-9A-Fa-f:.]*[0-9A-Fa-f]\]?`)
)

// maxText bounds what is shown of any one string, in bytes.
const maxText = 4 << 10

// plain is a value as it is: valid UTF-8 of a bounded length without tokens, and, if
// addresses are not to be seen, without these.
func (r *redactor) plain(s string) string {
	s = withoutTokens(s)
	if r.policy.mode(Address) != Keep && strings.ContainsAny(s, ".:") {
		s = addressLike.ReplaceAllStringFunc(s, r.address)
	}
	return s
}

// address in a text: only what is one is changed, a port after it stays off.
func (r *redactor) address(s string) string {
	bare := strings.Trim(s, "[]")
	if a, err := netip.ParseAddr(bare); err == nil {
		return r.show(Address, a.String())
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return r.show(Address, a.Addr().String())
	}
	return s
}

func withoutTokens(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if strings.Contains(s, "eyJ") {
		s = tokenLike.ReplaceAllString(s, "redacted")
	}
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// network an address is in: /24, and /48 of IPv6.
func network(address string) string {
	a, err := netip.ParseAddr(strings.Trim(address, "[]"))
	if err != nil {
		return "local"
	}
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "local"
	}
	return p.String()
}
