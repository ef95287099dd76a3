//go:build envoy

package serve

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
	"github.com/breakglass-gateway/breakglass-gateway/test/upstream"
)

// pod answers as upstream's echo-basic does: with what it saw of the request.
type pod struct {
	name, namespace string
	port            int

	mu     sync.Mutex
	paths  map[string]bool
	failed map[string]int // answers with an error, by ?uuid=
}

// seenByPod is the answer.
type seenByPod struct {
	Pod, Namespace, Path, Host, Method, Proto string
	Headers                                   http.Header
}

func startPod(name, namespace string) *pod {
	GinkgoHelper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	p := &pod{name: name, namespace: namespace, port: l.Addr().(*net.TCPAddr).Port, paths: map[string]bool{}, failed: map[string]int{}}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: p, Protocols: protocols, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close
	DeferCleanup(server.Close)
	return p
}

func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code := p.count(r); code != 0 {
		w.WriteHeader(code)
		return
	}
	if d, err := time.ParseDuration(r.URL.Query().Get("delay")); err == nil {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			return
		}
	}
	for _, list := range r.Header["X-Echo-Set-Header"] {
		for kv := range strings.SplitSeq(list, ",") {
			if k, v, ok := strings.Cut(strings.TrimSpace(kv), ":"); ok {
				w.Header().Add(k, v)
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(seenByPod{p.name, p.namespace, r.RequestURI, r.Host, r.Method, r.Proto, r.Header}) // a client that went away is no error
}

// count a request. The first ?succeedAfter= of a ?uuid= fail.
func (p *pod) count(r *http.Request) (code int) {
	q := r.URL.Query()
	after, _ := strconv.Atoi(q.Get("succeedAfter"))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paths[r.URL.Path] = true
	if p.failed[q.Get("uuid")] >= after {
		return 0
	}
	p.failed[q.Get("uuid")]++
	code, _ = strconv.Atoi(q.Get("responseCode"))
	return code
}

func (p *pod) saw(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paths[path]
}

// cluster is a directory with what upstream's tests take for granted. Every Gateway
// has an address of its own, and ports that anybody may bind.
type cluster struct {
	*testbed.World
	pods      map[string]*pod
	ports     map[int64]int
	addresses map[string]string
}

func newCluster() *cluster {
	GinkgoHelper()
	c := &cluster{World: testbed.New(), pods: map[string]*pod{}, addresses: map[string]string{}, ports: map[int64]int{}}
	for _, port := range []int64{80, 443, 8080, 8090} {
		c.ports[port] = testbed.FreePort()
	}
	c.Policy.Scope = "{allowWildcardHostnames: true, allowCatchAllPath: true, allowAnyMethod: true, allowUnlabelled: true, allowPlainHTTP: true, maxRules: 16}"
	c.WritePolicy()
	c.Write("base.yaml", c.adapt(upstream.Base()))
	c.Start()
	return c
}

// document of a manifest.
type document map[string]any

func (d document) at(path ...string) any {
	var v any = map[string]any(d)
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func (d document) name() string      { return fmt.Sprint(d.at("metadata", "name")) }
func (d document) namespace() string { return fmt.Sprint(d.at("metadata", "namespace")) }

func documents(manifest []byte) []document {
	GinkgoHelper()
	var out []document
	for text := range strings.SplitSeq(string(manifest), "\n---") {
		var d document
		Expect(yaml.Unmarshal([]byte(text), &d)).To(Succeed())
		if d != nil {
			out = append(out, d)
		}
	}
	return out
}

// adapt a manifest: the class, the addresses, the ports, and the endpoints, which
// in a cluster somebody else writes.
func (c *cluster) adapt(manifest []byte) string {
	GinkgoHelper()
	manifest = []byte(strings.ReplaceAll(string(manifest), "{GATEWAY_CLASS_NAME}", "emergency"))
	var out []string
	for _, d := range documents(manifest) {
		switch d["kind"] {
		case "Gateway":
			if d.name() == "same-namespace-with-https-listener" {
				continue // there is no certificate
			}
			if c.addresses[d.name()] == "" {
				c.addresses[d.name()] = fmt.Sprintf("127.0.0.%d", 10+len(c.addresses))
			}
			spec := d["spec"].(map[string]any)
			spec["addresses"] = []any{map[string]any{"type": "IPAddress", "value": c.addresses[d.name()]}}
			c.movePorts(spec["listeners"])
		case "HTTPRoute":
			c.movePorts(d.at("spec", "parentRefs"))
			out = append(out, fmt.Sprintf("apiVersion: breakglass.dev/v1alpha1\nkind: Activation\nmetadata: {name: %s, namespace: %s}\n"+
				"spec: {targetRefs: [{name: %s}], role: db, reason: a test, incident: INC-1, duration: 1h}\n", c.Unique(), d.namespace(), d.name()))
		case "Service":
			if _, headless := d.at("spec", "selector").(map[string]any); headless || strings.Contains(d.name(), "backend") {
				out = append(out, c.slices(d)...)
			}
		case "EndpointSlice": // manual ones are of the first backend; there is no IPv6
			for _, p := range d["ports"].([]any) {
				p.(map[string]any)["port"] = c.pod("infra-backend-v1", upstream.Infra).port
			}
			d["endpoints"] = []any{}
			if d["addressType"] == "IPv4" {
				d["endpoints"] = []any{map[string]any{"addresses": []any{"127.0.0.1"}}}
			}
		}
		text, err := yaml.Marshal(d)
		Expect(err).NotTo(HaveOccurred())
		out = append(out, string(text))
	}
	return testbed.Docs(out...)
}

func (c *cluster) movePorts(list any) {
	all, _ := list.([]any)
	for _, x := range all {
		m := x.(map[string]any)
		if port, ok := m["port"].(float64); ok {
			m["port"] = c.ports[int64(port)]
		}
	}
}

func (c *cluster) pod(name, namespace string) *pod {
	GinkgoHelper()
	if c.pods[name] == nil {
		c.pods[name] = startPod(name, namespace)
	}
	return c.pods[name]
}

// slices of a Service: its own pod, or that of its selector.
func (c *cluster) slices(service document) []string {
	GinkgoHelper()
	name := service.name()
	if app, ok := service.at("spec", "selector", "app").(string); ok {
		name = app
	}
	p := c.pod(name, service.namespace())
	var out []string
	for i, port := range service.at("spec", "ports").([]any) {
		portName, _ := port.(map[string]any)["name"].(string)
		out = append(out, fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %[1]s-%[2]d, namespace: %[3]s, labels: {kubernetes.io/service-name: %[1]s}}\n"+
			"addressType: IPv4\nports: [{name: '%[4]s', port: %[5]d}]\nendpoints: [{addresses: [127.0.0.1]}]\n", service.name(), i, service.namespace(), portName, p.port))
	}
	return out
}

// ask makes the request of a case, with a token but for what a browser asks.
func (c *cluster) ask(k upstream.Case) testbed.Reply {
	header := http.Header{}
	for name, v := range k.Request.Headers {
		header.Set(name, v)
	}
	for name, v := range k.BackendSetResponseHeaders {
		header.Add("X-Echo-Set-Header", name+":"+v)
	}
	r := testbed.Request{Method: k.Request.Method, Host: k.Request.Host, Path: k.Request.Path, Header: header, Token: c.Token()}
	address := fmt.Sprintf("%s:%d", c.addresses[k.Gateway], c.ports[int64(k.Port)])
	if r.Host == "" {
		r.Host = address
	}
	if k.Request.Method == http.MethodOptions && header.Get("Access-Control-Request-Method") != "" {
		r.Token = ""
	}
	client := testbed.At(address, k.Request.Protocol == "H2C_PRIOR_KNOWLEDGE")
	defer client.Close()
	return client.Do(r)
}

// fresh is the case with a word of its own where it asks for one.
func (c *cluster) fresh(k upstream.Case) upstream.Case {
	word, want := c.Unique(), *k.ExpectedRequest
	k.Request.Path = strings.ReplaceAll(k.Request.Path, "UNIQUE", word)
	want.Path = strings.ReplaceAll(want.Path, "UNIQUE", word)
	k.ExpectedRequest = &want
	return k
}

// judge says what of an answer is not as the case wants it, "" for nothing.
func (c *cluster) judge(k upstream.Case, r testbed.Reply) string {
	switch {
	case r.Err != nil:
		return r.Err.Error()
	case !slices.Contains(k.Response.StatusCodes, r.Status):
		return fmt.Sprintf("status %d, want %v: %s", r.Status, k.Response.StatusCodes, r.Body)
	case r.Status >= 300 && r.Status < 400:
		return c.judgeRedirect(k, r)
	case r.Status >= 300:
		return ""
	}
	for name, want := range k.Response.Headers {
		if got := strings.Join(r.Header.Values(name), ","); got != want {
			return fmt.Sprintf("response header %s is %q, want %q", name, got, want)
		}
	}
	for name, want := range k.Response.ValidHeaderValues {
		got, one := strings.ReplaceAll(strings.Join(r.Header.Values(name), ","), " ", ""), false
		for _, w := range want {
			one = one || got == strings.ReplaceAll(w, " ", "")
		}
		if !one {
			return fmt.Sprintf("response header %s is %q, want one of %q", name, got, want)
		}
	}
	for _, name := range k.Response.AbsentHeaders {
		if r.Header.Values(name) != nil {
			return "there is a response header " + name
		}
	}
	if k.Request.Method == http.MethodOptions && r.Body == "" {
		return ""
	}
	return judgeSeen(k, r)
}

func judgeSeen(k upstream.Case, r testbed.Reply) string {
	var seen seenByPod
	if err := json.Unmarshal([]byte(r.Body), &seen); err != nil {
		return fmt.Sprintf("no answer of a pod: %v: %s", err, r.Body)
	}
	want := k.ExpectedRequest
	switch {
	case !strings.HasPrefix(seen.Pod, k.Backend) || k.Namespace != seen.Namespace:
		return fmt.Sprintf("it reached %s/%s, want %s/%s", seen.Namespace, seen.Pod, k.Namespace, k.Backend)
	case want.Path != seen.Path || want.Method != seen.Method:
		return fmt.Sprintf("%s %s arrived, want %s %s", seen.Method, seen.Path, want.Method, want.Path)
	case want.Host != "" && want.Host != seen.Host:
		return fmt.Sprintf("host %s arrived, want %s", seen.Host, want.Host)
	case seen.Headers.Get("Authorization") != "":
		return "the token arrived"
	}
	for name, value := range want.Headers {
		if got := strings.Join(seen.Headers.Values(name), ","); got != value {
			return fmt.Sprintf("header %s arrived as %q, want %q", name, got, value)
		}
	}
	for _, name := range want.AbsentHeaders {
		if seen.Headers.Values(name) != nil {
			return "a header arrived: " + name
		}
	}
	return ""
}

func (c *cluster) judgeRedirect(k upstream.Case, r testbed.Reply) string {
	if k.RedirectRequest == nil {
		return ""
	}
	to, err := url.Parse(r.Header.Get("Location"))
	if err != nil {
		return err.Error()
	}
	want := *k.RedirectRequest
	port := want.Port
	if standard := map[string]string{"http": fmt.Sprint(c.ports[int64(k.Port)]), "https": "443"}[to.Scheme]; port == "" && to.Port() == standard {
		port = to.Port() // of HTTP the listener's, which is not 80 here
	}
	switch {
	case want.Scheme != "" && want.Scheme != to.Scheme, want.Host != "" && want.Host != to.Hostname(), want.Path != "" && want.Path != to.Path, port != to.Port():
		return fmt.Sprintf("it leads to %s, want %+v", to, want)
	}
	return ""
}

// notHere are upstream's tests that depend on ports below 1024, or on a certificate.
var notHere = []string{"redirect-port-and-scheme"}

var _ = Describe("What upstream's tests ask", Ordered, ContinueOnFailure, func() {
	var c *cluster
	BeforeAll(func() { c = newCluster() })

	tests, err := upstream.Tests()
	if err != nil {
		panic(err)
	}
	for _, test := range tests {
		if slices.Contains(notHere, test.Name) {
			continue
		}
		It("of "+test.Name+" is answered as they expect", func() {
			c.Write("test.yaml", c.adapt(test.Manifest))
			defer c.Remove("test.yaml")
			for i, k := range test.Cases {
				what := fmt.Sprintf("case %d, %s: %s %s%s", i, k.TestCaseName, k.Request.Method, k.Request.Host, k.Request.Path)
				Eventually(func() string { k := c.fresh(k); return c.judge(k, c.ask(k)) }, "10s", "50ms").Should(BeEmpty(), what)
				for _, m := range k.MirroredTo {
					path, _, _ := strings.Cut(k.Request.Path, "?")
					Eventually(func() bool { return c.pods[m.BackendRef.Name].saw(path) }).Should(BeTrue(), "%s: no copy reached %s", what, m.BackendRef.Name)
				}
			}
		})
	}

	It("of reference-grant turns into 500 when the grant is gone", func() {
		i := slices.IndexFunc(tests, func(t upstream.Test) bool { return t.Name == "reference-grant" })
		manifest, k := c.adapt(tests[i].Manifest), tests[i].Cases[0]
		c.Write("test.yaml", manifest)
		defer c.Remove("test.yaml")
		Eventually(func() string { return c.judge(k, c.ask(k)) }, "10s", "50ms").Should(BeEmpty())
		docs := strings.Split(manifest, "---\n")
		without := slices.DeleteFunc(slices.Clone(docs), func(d string) bool { return strings.Contains(d, "kind: ReferenceGrant") })
		Expect(without).To(HaveLen(len(docs) - 1))
		c.Write("test.yaml", testbed.Docs(without...))
		Eventually(func() int { return c.ask(k).Status }).Should(Equal(500))
	})
})
