//go:build envoy

package serve

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// shadow is where copies go. It takes what comes and never answers, so that a copy
// lives for as long as it is let.
type shadow struct {
	port int

	mu     sync.Mutex
	copies map[string]*copied // by path and query
}

// copied is one copy of a request.
type copied struct {
	host    string
	header  http.Header
	last    time.Time // of its body's bytes
	arrived bool      // all of its body
	ended   time.Time
}

func startShadow() *shadow {
	GinkgoHelper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	s := &shadow{port: l.Addr().(*net.TCPAddr).Port, copies: map[string]*copied{}}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close
	DeferCleanup(server.Close)
	return s
}

func (s *shadow) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c := &copied{host: r.Host, header: r.Header.Clone()}
	s.mu.Lock()
	s.copies[r.URL.RequestURI()] = c
	s.mu.Unlock()
	note := func(f func()) {
		s.mu.Lock()
		defer s.mu.Unlock()
		f()
	}
	buf := make([]byte, 4096)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			note(func() { c.last = time.Now() })
		}
		if err != nil {
			note(func() { c.arrived = err.Error() == "EOF" })
			break
		}
	}
	<-r.Context().Done()
	note(func() { c.ended = time.Now() })
}

// of is what is known of the copy of a request, the zero value if there is none.
func (s *shadow) of(uri string) copied {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.copies[uri]; c != nil {
		return *c
	}
	return copied{}
}

func (s *shadow) came(uri string) func() bool {
	return func() bool { return s.of(uri).host != "" }
}

// mirrored is a route whose requests are copied to the Services.
func mirrored(name string, services ...string) string {
	var filters []string
	for _, s := range services {
		filters = append(filters, "{type: RequestMirror, requestMirror: {backendRef: {name: "+s+", port: 80}}}")
	}
	return testbed.Route{Name: name, Rules: []testbed.Rule{{
		Matches: []string{testbed.Match("GET", "PathPrefix", "/api", ""), testbed.Match("POST", "PathPrefix", "/api", "")},
		Extra:   "filters: [" + strings.Join(filters, ", ") + "]",
	}}}.YAML()
}

// copyEnds checks that a copy, and the bytes that go into it, ended at an instant.
func copyEnds(s *shadow, uri string, instant time.Time, tolerance time.Duration) {
	GinkgoHelper()
	Eventually(func() time.Time { return s.of(uri).ended }, time.Until(instant)+2*time.Second, "5ms").ShouldNot(BeZero(), "the copy %s lives on", uri)
	c := s.of(uri)
	notAfter(c.last, instant, tolerance, "the last byte of the copy ", uri)
	notAfter(c.ended, instant, tolerance+150*time.Millisecond, "the end of the copy ", uri)
	testbed.Figure("copy of a request: last byte", c.last.Sub(instant))
}

var _ = Describe("A mirror", Ordered, ContinueOnFailure, func() {
	var w *testbed.World
	var to *shadow
	BeforeAll(func() {
		w = testbed.New()
		to = startShadow()
		w.Write("shadow.yaml", testbed.Service("shadow", to.port), testbed.Service("nobody"), testbed.Service("refuses", testbed.FreePort()))
		w.Start()
	})
	// open a mirrored route, and return its host.
	open := func(duration string, services ...string) (name, host string, deadline time.Time) {
		GinkgoHelper()
		name = w.Unique()
		w.Write(name+"-route.yaml", mirrored(name, services...))
		deadline = w.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: duration})
		return name, testbed.Host(name), deadline
	}
	// running are an upload whose backend still takes it, and a request that its
	// backend has answered; their copies run.
	running := func(host, token string) (upload *testbed.Stream, uris []string) {
		GinkgoHelper()
		upload = w.Upload(w.TLS2(), host, "/api/upload", token)
		answered := "/api/answered?" + upload.ID
		Expect(w.H1().Do(testbed.Request{Method: "POST", Host: host, Path: answered, Token: token, Body: strings.NewReader("all of it")})).To(haveStatus(200))
		uris = []string{"/api/upload?id=" + upload.ID, answered}
		for _, uri := range uris {
			Eventually(to.came(uri)).Should(BeTrue(), uri)
		}
		Eventually(func() bool { return to.of(answered).arrived }).Should(BeTrue())
		Eventually(func() time.Time { return to.of(uris[0]).last }).ShouldNot(BeZero(), "the upload is not copied while it runs")
		return upload, uris
	}

	It("gets the request as the backend does, without the token and the commands of Envoy's", func() {
		_, host, _ := open("10m", "shadow")
		Expect(w.H1().Get(host, "/api/seen?q=1", w.Token())).To(haveStatus(200))
		Eventually(to.came("/api/seen?q=1")).Should(BeTrue())
		c := to.of("/api/seen?q=1")
		Expect(c.host).To(Equal(host))
		c.header.Del("X-Envoy-Internal") // Envoy says so of a request that it makes itself
		for name := range c.header {
			Expect(strings.ToLower(name)).NotTo(Or(Equal("authorization"), HavePrefix("x-envoy-"), HavePrefix("x-breakglass-")))
		}
	})

	It("gets nothing of a request that is refused", func() {
		_, host, _ := open("10m", "shadow")
		Expect(w.H1().Get(host, "/api/refused", "")).To(haveStatus(401))
		Expect(w.H1().Get(host, "/api/refused", w.Issuer.Token("web"))).To(haveStatus(403))
		Expect(w.H1().Get(host, "/api/good", w.Token())).To(haveStatus(200))
		Eventually(to.came("/api/good")).Should(BeTrue())
		Expect(to.came("/api/refused")()).To(BeFalse())
	})

	It("loses what runs at the deadline, although serve was killed a second before", func() {
		own := testbed.New()
		own.Write("shadow.yaml", testbed.Service("shadow", to.port))
		own.Write("r.yaml", mirrored("r", "shadow"))
		own.Start()
		deadline := own.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "3s"})
		shared := w
		w = own
		upload, uris := running(testbed.Host("r"), own.Token())
		w = shared
		testbed.WaitUntil(deadline.Add(-time.Second))
		own.KillServe()
		cutAt("mirrored upload at the deadline", upload, deadline, late)
		for _, uri := range uris {
			copyEnds(to, uri, deadline, late)
		}
	})

	It("loses what runs at a revocation", func() {
		name, host, _ := open("10m", "shadow")
		upload, uris := running(host, w.Token())
		asked := w.Revoke(name)
		cutAt("mirrored upload at a revocation", upload, asked, revocation)
		for _, uri := range uris {
			copyEnds(to, uri, asked, revocation)
		}
	})

	It("loses an upload that runs at the end of its token", func() {
		_, host, _ := open("10m", "shadow")
		exp, token := shortToken(w)
		upload := w.Upload(w.H1(), host, "/api/upload", token)
		uri := "/api/upload?id=" + upload.ID
		Eventually(to.came(uri)).Should(BeTrue())
		cutAt("mirrored upload at its token's exp", upload, exp, late)
		copyEnds(to, uri, exp, late)
	})

	It("that is not there, or not to be reached, is no loss to the request", func() {
		for _, service := range []string{"none", "nobody", "refuses"} {
			name, host, _ := open("10m", service, "shadow")
			path := "/api/" + service
			Expect(w.H1().Get(host, path, w.Token())).To(haveStatus(200), service)
			Eventually(to.came(path)).Should(BeTrue(), "the other mirror")
			if service == "none" {
				Eventually(told(w)).Should(line("route "+name, "does not exist"))
			}
		}
	})
})
