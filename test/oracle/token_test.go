//go:build envoy

package oracle

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// This file says which tokens hold a role: README, the comments of EmergencyPolicy,
// docs/threats.md and RFC 7519. A token is judged by how it was made.

// token is how a token was made and how it is presented.
type token struct {
	// Signer is "issuer/kid" of the key that signed it, or "" for nobody that the
	// policy knows.
	Signer string
	// Header as it was signed, and Claims.
	Header, Claims map[string]any
	// Broken: something was changed after signing, or there was no signing.
	Broken bool
	// Manner in which it is presented: "bearer" is the only good one.
	Manner string
	// What is for readers of a report.
	What []string

	text string
}

const (
	// aSecond: that much an issuer's clock may be ahead (iat); and nbf.
	aSecond = time.Second
)

// verdict on a token between two instants.
type verdict int

const (
	bad verdict = iota
	maybe
	good
)

// and is the worse of two.
func (v verdict) and(o verdict) verdict { return min(v, o) }

// holds says whether the token holds the role from start to end.
func (w *world) holds(t *token, roleName string, start, end time.Time) verdict {
	if t.Manner != "bearer" || t.Broken {
		return bad
	}
	iss, _ := t.Claims["iss"].(string)
	i := w.Policy.issuerOf(iss)
	alg, _ := t.Header["alg"].(string)
	if i == nil || !slices.Contains(i.Algorithms, alg) || !w.signedBy(t, i) {
		return bad
	}
	for _, extension := range []string{"crit", "b64"} {
		if _, some := t.Header[extension]; some {
			return bad
		}
	}
	if !anyIn(t.Claims["aud"], i.Audiences) || !w.granted(t, i, roleName) {
		return bad
	}
	return timely(t, i, start, end)
}

// signedBy one of the issuer's own keys, under that key's name or none.
func (w *world) signedBy(t *token, i *issuer) bool {
	name, kid, _ := strings.Cut(t.Signer, "/")
	if name != i.Name || !slices.Contains(i.Keys, kid) {
		return false
	}
	said, some := t.Header["kid"]
	return !some || said == kid
}

func (w *world) granted(t *token, i *issuer, roleName string) bool {
	ro := w.Policy.role(roleName)
	return ro != nil && slices.ContainsFunc(ro.Grants, func(g grant) bool {
		return g.Issuer == i.Name && !slices.ContainsFunc(g.Claims, func(c claim) bool { return !anyIn(at(t.Claims, c.Path), c.AnyOf) })
	})
}

// at is the claim at a path; nil if there is none.
func at(claims map[string]any, path []string) any {
	var v any = claims
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// anyIn: one of the strings, or a list that holds one.
func anyIn(v any, of []string) bool {
	switch v := v.(type) {
	case string:
		return slices.Contains(of, v)
	case []any:
		return slices.ContainsFunc(v, func(e any) bool {
			s, is := e.(string)
			return is && slices.Contains(of, s)
		})
	}
	return false
}

// timely: exp and iat are numbers, cut to whole seconds; exp is ahead, iat is not
// (but for a second), they are not too far apart; and nbf, if there is one, is not
// ahead.
func timely(t *token, i *issuer, start, end time.Time) verdict {
	exp, ok := seconds(t.Claims["exp"])
	iat, ok2 := seconds(t.Claims["iat"])
	if !ok || !ok2 || exp-iat > int64(i.MaxLifetime/time.Second) {
		return bad
	}
	v := before(end, start, time.Unix(exp, 0)).and(after(start, end, time.Unix(iat, 0).Add(-aSecond)))
	if nbf, some := t.Claims["nbf"]; some {
		n, ok := seconds(nbf)
		if !ok {
			return bad
		}
		// By how much an issuer's clock may be ahead here is not said; a second or two.
		if end.Before(time.Unix(n, 0).Add(-2 * aSecond)) {
			v = bad
		} else if start.Before(time.Unix(n, 0)) {
			v = v.and(maybe)
		}
	}
	return v
}

// before: all of the time from start to end is before t; or none; or, close to it,
// who knows.
func before(end, start, t time.Time) verdict {
	switch {
	case end.Before(t.Add(-early)):
		return good
	case start.After(t.Add(late)):
		return bad
	}
	return maybe
}

func after(start, end, t time.Time) verdict {
	switch {
	case start.After(t.Add(late)):
		return good
	case end.Before(t.Add(-early)):
		return bad
	}
	return maybe
}

// seconds of a claim: a number that an instant can be.
func seconds(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case float64:
		return int64(math.Floor(n)), !math.IsInf(n, 0) && math.Abs(n) < 1<<53
	case json.Number:
		return 0, false
	}
	return 0, false
}
