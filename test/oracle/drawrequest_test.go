//go:build envoy

package oracle

import (
	"fmt"
	"strings"
)

var (
	// samples of what the regular expressions and prefixes fit, or nearly fit.
	samplePaths = []string{"/db/drop", "/db/list", "/db/admin/x", "/api/v1", "/api/v2", "/api/v1/x", "/db/admin/", "/x", "/api/abc/x", "/db/Drop", "/apix", "/"}
)

// drawRequest draws a request that some rule of the places is meant for, and
// often one that is not quite.
func (w *world) drawRequest(d dice, routes []*route) request {
	r := one(d, routes...)
	ru := one(d, r.Rules...)
	m := one(d, ru.Matches...)
	l := w.attached(d, r)
	host := ""
	if len(r.Hosts) > 0 {
		host = one(d, r.Hosts...)
	}
	if common, some := both(l.Hostname, host); some {
		host = common
	}
	q := request{
		Port: l.Port, Version: d.from(1, 2), Host: example(d, host, w.Domain), Method: m.Method,
		Path: m.Path, Header: map[string]string{},
	}
	if q.Method == "" {
		q.Method = one(d, methods...)
	}
	switch {
	case m.Kind == "RegularExpression":
		q.Path = one(d, samplePaths...)
		for range 20 {
			if m.fitsPath(q.Path) {
				break
			}
			q.Path = one(d, samplePaths...)
		}
	case m.Kind == "PathPrefix" && d.chance(60):
		q.Path = strings.TrimSuffix(m.Path, "/") + one(d, "/x", "/", "/drop", "/admin/x", "/v1")
	}
	for _, h := range m.Headers {
		q.Header[h.Name] = sample(d, h)
	}
	var query []string
	for _, p := range m.Queries {
		query = append(query, p.Name+"="+sample(d, p))
	}
	q.Query = strings.Join(query, "&")
	if d.chance(45) {
		w.bend(d, &q)
	}
	if strings.HasPrefix(q.Path, "//") {
		q.Path = q.Path[1:]
	}
	return q
}

// attached is a listener of the route; any, if it has none.
func (w *world) attached(d dice, r *route) *listener {
	var of []*listener
	for i := range w.Listeners {
		if l := &w.Listeners[i]; len(r.hostnames(l)) > 0 {
			of = append(of, l)
		}
	}
	if len(of) == 0 || d.chance(5) {
		return &w.Listeners[d.IntN(len(w.Listeners))]
	}
	return one(d, of...)
}

func sample(d dice, p pair) string {
	good := map[string]string{"x-env": "prod", "x-tier": "t1", "dry": "yes", "n": "42"}
	if d.chance(8) {
		return one(d, "no", "PROD", "t1x", "")
	}
	return good[p.Name]
}

// bend changes one thing about a request.
func (w *world) bend(d dice, q *request) {
	note := func(format string, args ...any) { q.What = append(q.What, fmt.Sprintf(format, args...)) }
	switch d.IntN(18) {
	case 0:
		q.Host = strings.ToUpper(q.Host)
		note("host in upper case")
	case 1:
		q.Host += ":" + one(d, "80", "8443", "1")
		note("host with a port")
	case 2:
		q.Host += "."
		note("host with a dot")
	case 3:
		q.Host = one(d, "a.", "b.", "x.a.", "", "zz.") + w.Domain
		note("another host")
	case 4:
		q.Host = one(d, "other.test", "evil"+w.Domain, w.Domain+".evil.test", "example.test")
		note("a foreign host")
	case 5:
		q.Method = one(d, append([]string{"PATCH", "OPTIONS"}, methods...)...)
		note("another method")
	case 6:
		q.Path = one(d, samplePaths...)
		note("another path")
	case 7:
		q.Path += one(d, "/", "x", "/x", "/drop")
		note("a longer path")
	case 8:
		q.Path = strings.Replace(q.Path[:1]+strings.Replace(q.Path[1:], "/", one(d, "//", "/./", "/x/../", "/%2e/"), 1), "/x/../", "/x/../", 1)
		note("a path to normalise")
	case 9:
		q.Path = one(d, "/api/../db", "/db/../api/v1", "/db/x/../drop", "/./db", "/db/.", "/db/drop/..", "/db/%2e%2e/api") + one(d, "", "/x", "/")
		note("a path with dots")
	case 10:
		q.Path = strings.Replace(strings.Replace(q.Path, "a", "%61", 1), "d", "%64", 1)
		note("a path with escapes")
	case 11, 16:
		q.Path += one(d, ";x=1", "/x;y", "/;", "/..;/db", "%2fdrop", "/x%2Fy", "/%5cx")
		note("a path of the forbidden kind")
	case 12:
		q.Header = map[string]string{}
		note("no headers")
	case 13:
		q.Query = one(d, "", "dry=no", "dry=yes&n=7", "DRY=yes", "x=1&dry=yes")
		note("another query")
	case 14, 17:
		q.Port = d.IntN(3)
		note("another port")
	case 15:
		q.Header["x-original-path"], q.Header["x-forwarded-host"], q.Header["x-breakglass-scope"] = "/db", "a."+w.Domain, "http|a."+w.Domain
		note("headers that mean something to proxies")
	}
}
