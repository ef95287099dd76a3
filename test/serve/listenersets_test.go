//go:build envoy

package serve

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// allowing is a Gateway that lets ListenerSets of its namespace in.
func allowing(gateway string) string {
	return strings.Replace(gateway, "spec:\n", "spec:\n  allowedListeners: {namespaces: {from: Same}}\n", 1)
}

func listenerSet(name, gateway string, listeners ...string) string {
	return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: %s, namespace: %s}\nspec:\n  parentRef: {name: %s}\n  listeners: [%s]\n",
		name, testbed.Namespace, gateway, strings.Join(listeners, ", "))
}

var _ = Describe("A ListenerSet", func() {
	It("adds listeners to its Gateway, with routes of their own behind the same locks", func() {
		g, port, more := shared.Unique(), testbed.FreePort(), testbed.FreePort()
		mine, set, tls := g+"-own.example.test", g+"-set.example.test", g+"-tls.example.test"
		bySet := strings.Replace(openOn(g, "set", mine, set, tls), "{name: "+g+", sectionName: set}", "{kind: ListenerSet, name: "+g+"}", 1)
		own(g, allowing(testbed.Gateway(g, "emergency", testbed.Listener("own", port, mine))),
			listenerSet(g, g, testbed.Listener("own", port, set), secureListener("tls", more, tls), testbed.Listener("taken", port, mine)),
			openOn(g, "own", mine, set, tls), bySet)
		shared.AwaitPhase(g+"-own", "Live")
		shared.AwaitPhase(g+"-set", "Live")
		token := shared.Token()
		for name, c := range map[string]*testbed.Client{"h1": shared.H1On(port), "h2c": shared.H2COn(port), "tls": shared.TLS2On(more).ServerName(tls)} {
			hosts := map[string]string{mine: "own", set: "set"}
			if name == "tls" {
				hosts = map[string]string{tls: "set"}
			}
			for host, served := range hosts {
				for _, path := range []string{"own", "set"} {
					want := 404
					if path == served {
						want = 200
					}
					Expect(c.Get(host, "/api/"+path+"/"+g, token)).To(haveStatus(want), "%s, %s/api/%s", name, host, path)
					Expect(c.Get(host, "/api/"+path+"/"+g, "")).To(haveStatus(map[int]int{404: 404, 200: 401}[want]), "%s, %s/api/%s without a token", name, host, path)
				}
			}
		}

		By("the Gateway does not let it in any more")
		own(g, testbed.Gateway(g, "emergency", testbed.Listener("own", port, mine)), listenerSet(g, g, testbed.Listener("own", port, set), secureListener("tls", more, tls)),
			openOn(g, "own", mine, set, tls), bySet)
		Eventually(func() testbed.Reply { return shared.TLS2On(more).ServerName(tls).Get(tls, "/api/set/"+g, token) }).Should(haveStatus(0))
		Eventually(func() testbed.Reply { return shared.H1On(port).Get(set, "/api/set/"+g, token) }).Should(haveStatus(404))
		Expect(shared.H1On(port).Get(mine, "/api/own/"+g, token)).To(haveStatus(200))
	})
})
