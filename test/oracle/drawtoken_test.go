//go:build envoy

package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// drawToken draws a token for a role, and more often than not with something
// wrong about it.
func (w *world) drawToken(d dice, roleName string) *token {
	ro := w.Policy.role(roleName)
	if ro == nil || len(ro.Grants) == 0 {
		ro = &w.Policy.Roles[d.IntN(len(w.Policy.Roles))]
	}
	now := time.Now().Unix()
	g := one(d, ro.Grants...)
	if len(w.oldGrants) > 0 && d.chance(20) {
		g = one(d, w.oldGrants...)
	}
	t := w.genuine(d, g, now)
	if d.chance(55) {
		w.spoil(d, t, now)
		if d.chance(10) {
			w.spoil(d, t, now)
		}
	}
	if t.text == "" {
		t.text = w.sign(t)
	}
	if d.chance(8) {
		tamper(d, t)
	}
	return t
}

// genuine is a token that the grant fits.
func (w *world) genuine(d dice, g grant, now int64) *token {
	i := w.Policy.issuer(g.Issuer)
	var kids []string
	for _, kid := range i.Keys {
		if slices.Contains(i.Algorithms, w.keys[i.Name+"/"+kid].alg) {
			kids = append(kids, kid)
		}
	}
	kid := one(d, kids...)
	t := &token{Signer: i.Name + "/" + kid, Manner: "bearer", Header: map[string]any{"alg": w.keys[i.Name+"/"+kid].alg, "kid": kid, "typ": "JWT"}}
	life := min(int64(i.MaxLifetime/time.Second), 600)
	issued := now - int64(d.from(0, 20))
	t.Claims = map[string]any{"iss": i.URL, "aud": one(d, i.Audiences...), "sub": "alice@example.test", "iat": issued, "exp": issued + life}
	if d.chance(30) {
		t.Claims["aud"] = []any{"elsewhere", one(d, i.Audiences...)}
	}
	for _, c := range g.Claims {
		var v any = one(d, c.AnyOf...)
		if d.chance(60) {
			v = []any{one(d, values...) + "x", v}
		}
		set(t.Claims, c.Path, v)
	}
	return t
}

func set(claims map[string]any, path []string, v any) {
	for _, name := range path[:len(path)-1] {
		next, is := claims[name].(map[string]any)
		if !is {
			next = map[string]any{}
			claims[name] = next
		}
		claims = next
	}
	claims[path[len(path)-1]] = v
}

// sign the token as it says.
func (w *world) sign(t *token) string {
	if s := w.keys[t.Signer]; s != nil {
		return s.compact(t.Header, t.Claims)
	}
	alg, _ := t.Header["alg"].(string)
	return madeSigner("", alg, nobody).compact(t.Header, t.Claims)
}

// spoil does one thing to a token, most of them fatal.
func (w *world) spoil(d dice, t *token, now int64) {
	spoilers := []func(*world, dice, *token, int64) string{
		spoilSignature, spoilSignature, spoilHeader, spoilHeader, spoilAudience, spoilTimes, spoilTimes, spoilTimes,
		spoilClaims, spoilClaims, spoilClaims, spoilManner, spoilManner, spoilIssuer, spoilHome, spoilHome,
	}
	if t.text != "" {
		return
	}
	t.What = append(t.What, one(d, spoilers...)(w, d, t, now))
}

func spoilSignature(w *world, d dice, t *token, _ int64) string {
	s := w.keys[t.Signer]
	if s == nil {
		return "as before"
	}
	switch d.IntN(5) {
	case 0:
		t.Signer = ""
		return "signed by a stranger under the same kid"
	case 1:
		others := slices.Sorted(maps.Keys(w.keys))
		t.Signer = one(d, others...)
		t.Header["alg"] = w.keys[t.Signer].alg
		return "signed by " + t.Signer
	case 2:
		t.Broken, t.Header["alg"] = true, one(d, "none", "None", "")
		t.text = part(t.Header) + "." + part(t.Claims) + "."
		return "unsigned"
	case 3:
		t.Broken, t.Header["alg"] = true, "HS256"
		t.text = s.symmetric(t.Header, t.Claims)
		return "HS256 with the public key"
	default:
		t.Signer = ""
		t.Header["jwk"] = s.stranger().public()
		return "signed by a stranger who brings a jwk"
	}
}

func spoilHeader(_ *world, d dice, t *token, _ int64) string {
	switch d.IntN(6) {
	case 0:
		t.Header["crit"] = one[any](d, []any{"exp"}, []any{}, "exp")
		return "crit"
	case 1:
		t.Header["b64"] = d.chance(50)
		return "b64"
	case 2:
		delete(t.Header, "kid")
		return "no kid"
	case 3:
		t.Header["kid"] = one(d, "k1", "k2", "k9", "")
		if t.Header["kid"] == "" {
			delete(t.Header, "kid")
		}
		return "another kid"
	case 4:
		t.Header["typ"] = one(d, "at+jwt", "jwt")
		return "another typ"
	default:
		t.Header["x5u"], t.Header["jku"] = "https://evil.test/c", "https://evil.test/k"
		return "x5u and jku"
	}
}

func spoilAudience(_ *world, d dice, t *token, _ int64) string {
	first, _ := t.Claims["aud"].(string)
	switch d.IntN(5) {
	case 0:
		delete(t.Claims, "aud")
	case 1:
		t.Claims["aud"] = one[any](d, "", "grafana", []any{}, []any{"grafana", "x"}, int64(7), map[string]any{"breakglass": true})
	case 2:
		t.Claims["aud"] = one(d, "https://", "http://", "") + first + one(d, "/", "", "2")
	case 3:
		t.Claims["aud"] = strings.ToUpper(first)
	default:
		t.Claims["aud"] = one(d, "breakglass", "https://aud.example.test", "bg2")
	}
	return "another aud"
}

func spoilIssuer(w *world, d dice, t *token, _ int64) string {
	iss, _ := t.Claims["iss"].(string)
	switch d.IntN(4) {
	case 0:
		delete(t.Claims, "iss")
	case 1:
		t.Claims["iss"] = one(d, iss+"/", strings.TrimSuffix(iss, "/"), strings.ToUpper(iss), w.Policy.Issuers[0].Name)
	case 2:
		t.Claims["iss"] = one(d, w.Policy.Issuers...).URL
	default:
		t.Claims["iss"] = one[any](d, []any{iss}, int64(1), "")
	}
	return "another iss"
}

// spoilHome makes it a good token of another issuer, with the claims that count
// when this one says them.
func spoilHome(w *world, d dice, t *token, now int64) string {
	o := one(d, w.Policy.Issuers...)
	t.Signer = o.Name + "/" + one(d, o.Keys...)
	_, t.Header["kid"], _ = strings.Cut(t.Signer, "/")
	t.Header["alg"] = w.keys[t.Signer].alg
	t.Claims["iss"] = o.URL
	mine := one(d, o.Audiences...)
	switch old := t.Claims["aud"].(type) {
	case string:
		t.Claims["aud"] = []any{old, mine}
	case []any:
		t.Claims["aud"] = append(slices.Clone(old), mine)
	default: // what is no audience would spoil the list that it is in
		t.Claims["aud"] = mine
	}
	t.Claims["iat"], t.Claims["exp"] = now-5, now-5+min(int64(o.MaxLifetime/time.Second), 300)
	return "of " + o.Name + ", with the same claims"
}

// spoilTimes: whole seconds since 1970.
func spoilTimes(w *world, d dice, t *token, now int64) string {
	exp, _ := t.Claims["exp"].(int64)
	iat, _ := t.Claims["iat"].(int64)
	most := exp - iat
	if iss, _ := t.Claims["iss"].(string); w.Policy.issuerOf(iss) != nil {
		most = int64(w.Policy.issuerOf(iss).MaxLifetime / time.Second)
	}
	claim, v := "exp", any(nil)
	switch d.IntN(16) {
	case 0, 1:
		v = now - int64(d.from(0, 300))
	case 2:
		v = now + int64(d.from(0, 2))
	case 3:
		t.Claims["iat"], v = now-10, now-10+most // as long as may be
	case 4, 5:
		t.Claims["iat"], v = now-10, now-10+most+int64(d.from(1, 10))
	case 6:
		v = one[any](d, fmt.Sprint(exp), true, []any{exp}, int64(0), int64(-1), 1e300, float64(1<<60))
	case 7:
		v = float64(now+20) + 0.5
		if t.Claims["iat"] = now - 5; most < 30 {
			v = now
		}
	case 8:
		claim, v = "iat", now+int64(d.from(3, 300))
		t.Claims["exp"] = now + 301
	case 9:
		claim, v = "iat", now+1
	case 10:
		claim, v = "iat", one[any](d, fmt.Sprint(iat), true, int64(0), int64(-1<<62), -1e300)
	case 11:
		claim, v = "nbf", now+int64(d.from(4, 300))
	case 12:
		claim, v = "nbf", now-int64(d.from(0, 300))
	case 13:
		claim = "nbf"
		v = now + int64(d.from(1, 2))
	case 14:
		claim = "iat"
	}
	if t.Claims[claim] = v; v == nil {
		delete(t.Claims, claim)
	}
	return fmt.Sprintf("%s %v", claim, v)
}

func spoilClaims(w *world, d dice, t *token, _ int64) string {
	path := one(d, claimPaths...)
	old, _ := at(t.Claims, path).(string)
	if list, is := at(t.Claims, path).([]any); is && len(list) > 0 {
		old, _ = list[len(list)-1].(string)
	}
	if old == "" {
		old = one(d, values...)
	}
	var v any
	switch d.IntN(8) {
	case 0:
		v = one(d, values...)
	case 1:
		v = []any{one(d, values...), one(d, values...)}
	case 2:
		v = one[any](d, int64(7), true, nil, []any{}, map[string]any{old: true}, []any{[]any{old}}, []any{map[string]any{"x": old}}, "["+old+"]", "[\""+old+"\"]")
	case 3:
		v = one(d, strings.ToUpper(old), old+" ", " "+old, old+","+one(d, values...), old+"x", old+"\x00")
	case 4:
		set(t.Claims, path, nil)
		t.Claims[strings.Join(path, ".")] = []any{old}
		return "a claim by its dotted name"
	case 5:
		t.Claims[path[0]] = old // one level too high, if there are more
		return "a claim too high"
	case 6:
		delete(t.Claims, path[0])
		return "a claim less"
	default:
		// The claims of another role.
		g := w.drawGrant(d)
		for _, c := range g.Claims {
			set(t.Claims, c.Path, one(d, c.AnyOf...))
		}
		return "more claims"
	}
	set(t.Claims, path, v)
	return fmt.Sprintf("claim %v is %v", path, v)
}

func spoilManner(_ *world, d dice, t *token, _ int64) string {
	t.Manner = one(d, "none", "none", "lower-case", "twice", "after-basic", "before-basic", "query", "cookie", "basic", "two spaces", "plain", "proxy", "comma", "prefixed")
	return "presented by " + t.Manner
}

// tamper changes something after signing.
func tamper(d dice, t *token) {
	parts := strings.Split(t.text, ".")
	if len(parts) != 3 || t.Broken {
		return
	}
	t.Broken = true
	switch d.IntN(6) {
	case 0:
		claims := maps.Clone(t.Claims)
		claims["sub"] = "mallory"
		parts[1] = part(claims)
	case 1:
		header := maps.Clone(t.Header)
		header["x"] = 1
		parts[0] = part(header)
	case 2: // one bit of the signature
		b := []byte(parts[2])
		if b[20] == 'A' {
			b[20] = 'B'
		} else {
			b[20] = 'A'
		}
		parts[2] = string(b)
	case 3:
		parts[2] = ""
	case 4:
		parts[2] = strings.Repeat("A", len(parts[2]))
	default:
		parts = append(parts, "x")
	}
	t.text = strings.Join(parts, ".")
	t.What = append(t.What, "tampered with")
}

// headers that present the token, and what it adds to the query.
func (t *token) present() (headers map[string][]string, query string) {
	auth := func(v ...string) map[string][]string { return map[string][]string{"Authorization": v} }
	b := "Bearer " + t.text
	switch t.Manner {
	case "bearer":
		return auth(b), ""
	case "lower-case":
		return auth("bearer " + t.text), ""
	case "twice":
		return auth(b, b), ""
	case "after-basic":
		return auth("Basic YTpi", b), ""
	case "before-basic":
		return auth(b, "Basic YTpi"), ""
	case "query":
		return nil, "access_token=" + t.text
	case "cookie":
		return map[string][]string{"Cookie": {"access_token=" + t.text + "; Authorization=" + b}}, ""
	case "basic":
		return auth("Basic " + t.text), ""
	case "two spaces":
		return auth("Bearer  " + t.text), ""
	case "plain":
		return auth(t.text), ""
	case "proxy":
		return map[string][]string{"Proxy-Authorization": {b}, "X-Jwt-Assertion": {t.text}, "X-Forwarded-Access-Token": {t.text}}, ""
	case "comma":
		return auth(b + ", " + b), ""
	case "prefixed":
		return auth("Basic YTpi, " + b), ""
	}
	return nil, ""
}
