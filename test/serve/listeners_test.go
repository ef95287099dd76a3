//go:build envoy

package serve

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// own writes a file that goes with the spec, and with it its Gateway and Envoy, if it
// has one.
func own(name string, docs ...string) {
	GinkgoHelper()
	file := name + "-own.yaml"
	shared.Write(file, docs...)
	DeferCleanup(func() {
		if err := os.Remove(filepath.Join(shared.Config, file)); !errors.Is(err, os.ErrNotExist) {
			Expect(err).NotTo(HaveOccurred())
		}
	})
}

// secureListener is one for HTTPS, with the certificate of the door.
func secureListener(name string, port int, hostname string) string {
	l := testbed.Listener(name, port, hostname)
	return strings.Replace(l[:len(l)-1], "protocol: HTTP", "protocol: HTTPS", 1) + ", tls: {certificateRefs: [{name: door}]}}"
}

// openOn is a route GATEWAY-LISTENER on one listener of a Gateway, with paths below
// /api/LISTENER, and what opens it.
func openOn(gateway, listener string, hosts ...string) string {
	name := gateway + "-" + listener
	r := testbed.Route{Name: name, Gateway: gateway, Hosts: hosts, Rules: []testbed.Rule{{Matches: []string{testbed.Match("GET", "PathPrefix", "/api/"+listener, "")}}}}.YAML()
	return testbed.Docs(strings.Replace(r, "parentRefs: [{name: "+gateway+"}]", "parentRefs: [{name: "+gateway+", sectionName: "+listener+"}]", 1),
		testbed.Activation{Name: name, Routes: []string{name}, Duration: "30m"}.YAML())
}

var _ = Describe("Listeners that share a port", func() {
	It("have the hosts that are theirs, and no route of another listener serves them", func() {
		g, port := shared.Unique(), testbed.FreePort()
		hosts := map[string]string{"all": "other.invalid", "wild": g + ".example.test", "narrow": "b." + g + ".example.test", "exact": "a." + g + ".example.test"}
		docs := []string{testbed.Gateway(g, "emergency", testbed.Listener("all", port, ""), testbed.Listener("wild", port, "*.example.test"),
			testbed.Listener("narrow", port, "*."+g+".example.test"), testbed.Listener("exact", port, hosts["exact"]))}
		for l := range hosts { // each route names the hosts of all
			docs = append(docs, openOn(g, l, hosts["all"], hosts["wild"], hosts["narrow"], hosts["exact"]))
		}
		own(g, docs...)
		for l := range hosts {
			shared.AwaitPhase(g+"-"+l, "Live")
		}
		for name, c := range map[string]*testbed.Client{"h1": shared.H1On(port), "h2c": shared.H2COn(port)} {
			for l, host := range hosts {
				for other := range hosts {
					want := 404
					if other == l {
						want = 200
					}
					Expect(c.Get(host, "/api/"+other+"/"+g, shared.Token())).To(haveStatus(want), "%s, %s/api/%s", name, host, other)
					Expect(c.Get(host, "/api/"+other+"/"+g, "")).To(haveStatus(map[int]int{404: 404, 200: 401}[want]), "%s, %s/api/%s without a token", name, host, other)
				}
			}
		}
	})

	It("send away who comes on another's connection: 421, with a token and without", func() {
		g, port := shared.Unique(), testbed.FreePort()
		exact, wild, all := g+"-exact.example.test", g+"-wild.example.test", "localhost"
		own(g, testbed.Gateway(g, "emergency", secureListener("all", port, ""), secureListener("wild", port, "*.example.test"), secureListener("exact", port, exact)),
			openOn(g, "all", all, exact, wild), openOn(g, "wild", exact, wild), openOn(g, "exact", exact))
		for _, l := range []string{"all", "wild", "exact"} {
			shared.AwaitPhase(g+"-"+l, "Live")
		}
		for _, q := range []struct {
			sni, host, listener string
			want                int
		}{
			{all, all, "all", 200}, {all, exact, "all", 421}, {all, wild, "all", 421}, {all, wild, "wild", 421}, {all, "unknown.invalid", "all", 404}, {all, all, "wild", 404},
			{wild, wild, "wild", 200}, {wild, exact, "wild", 421}, {wild, all, "all", 421}, {wild, "unknown.invalid", "wild", 421}, {wild, wild, "all", 404},
			{exact, exact, "exact", 200}, {exact, wild, "exact", 421}, {exact, all, "all", 421}, {exact, "unknown.invalid", "exact", 421},
			{wild, strings.ToUpper(exact), "exact", 421}, {wild, exact + ":443", "exact", 421}, {exact, strings.ToUpper(exact) + ":1", "exact", 200},
		} {
			for name, c := range map[string]*testbed.Client{"h1": shared.TLS1On(port), "h2": shared.TLS2On(port)} {
				c.ServerName(q.sni)
				path := "/api/" + q.listener + "/" + g
				Expect(c.Get(q.host, path, shared.Token())).To(haveStatus(q.want), "%s, SNI %s, %s%s", name, q.sni, q.host, path)
				Expect(c.Get(q.host, path, "")).To(haveStatus(map[int]int{200: 401, 404: 404, 421: 421}[q.want]), "%s, SNI %s, %s%s without a token", name, q.sni, q.host, path)
			}
		}
		misdirected := shared.TLS2On(port).ServerName(wild).Get(exact, "/api/exact/asked", "")
		Expect(misdirected.Body).To(HavePrefix("421 misdirected request, request "))
		Eventually(func() string { return loggedAs(misdirected.Header.Get("X-Request-Id")).Denied }).Should(Equal("misdirected"))
	})

	It("take a port in the host for none of their business, and leave it to the backend", func() {
		g, port := shared.Unique(), testbed.FreePort()
		exact, wild := "a."+g+".example.test", "*."+g+".example.test"
		own(g, testbed.Gateway(g, "emergency", testbed.Listener("all", port, ""), testbed.Listener("wild", port, wild), testbed.Listener("exact", port, exact)),
			openOn(g, "all", exact, "b."+g+".example.test", "other.invalid"), openOn(g, "wild", exact, "b."+g+".example.test"), openOn(g, "exact", exact))
		for _, l := range []string{"all", "wild", "exact"} {
			shared.AwaitPhase(g+"-"+l, "Live")
		}
		for name, c := range map[string]*testbed.Client{"h1": shared.H1On(port), "h2c": shared.H2COn(port)} {
			get := func(host, listener string) testbed.Reply { return c.Get(host, "/api/"+listener+"/"+g, shared.Token()) }
			for host, listener := range map[string]string{exact: "exact", "b." + g + ".example.test": "wild", "other.invalid": "all"} {
				for _, p := range []string{":80", ":1234", ":65535", ":0"} {
					r := get(host+p, listener)
					Expect(r).To(haveStatus(200), "%s, %s%s", name, host, p)
					Expect(r.Body).To(ContainSubstring(`"host":"` + host + p + `"`))
					for _, other := range []string{"exact", "wild", "all"} {
						if other != listener {
							Expect(get(host+p, other)).To(haveStatus(404), "%s, %s%s on %s", name, host, p, other)
						}
					}
				}
				for _, p := range []string{":", ":x", ":-1", ":65536", ":000080", ":80:80", ":80x"} {
					for _, l := range []string{"exact", "wild", "all"} {
						Expect(get(host+p, l)).To(haveStatus(0, 400), "%s, %s%s on %s", name, host, p, l)
					}
				}
			}
			Expect(get("[::1]:80", "all")).To(haveStatus(404))
			Expect(get("[::1]", "all")).To(haveStatus(404))
			Expect(get(strings.ToUpper(exact)+":80", "exact")).To(haveStatus(200))
			Expect(get(strings.ToUpper(exact)+".:80", "exact")).To(haveStatus(200))
			Expect(get(strings.ToUpper(exact)+".:80", "all")).To(haveStatus(404))
		}
	})
})
