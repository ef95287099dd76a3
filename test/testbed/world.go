package testbed

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// World is a configuration and a data directory, and the processes that run on
// them.
type World struct {
	Dir, Config, Data string
	// HTTP and HTTPS are the ports of Gateway "door", for *.example.test.
	HTTP, HTTPS int
	Backend     *Backend
	// Issuer is "sso" of the policy.
	Issuer *Issuer
	Policy Policy
	// Args are added to the command line of serve.
	Args []string
	// Binary of serve, if it is not the usual one.
	Binary string

	certificate certificate
	serve       *process
}

// New makes a world with a Gateway, a policy with the roles db (of the group
// db-oncall) and web (of the group web), and a backend. Nothing runs yet.
func New() *World {
	GinkgoHelper()
	dir, err := os.MkdirTemp("", "bg-") // short: a socket's path has at most 107 bytes
	Expect(err).NotTo(HaveOccurred())
	w := &World{
		Dir: dir, Config: filepath.Join(dir, "config"), Data: filepath.Join(dir, "data"),
		HTTP: FreePort(), HTTPS: FreePort(),
		Backend: StartBackend("echo"), Issuer: NewIssuer("sso"), certificate: newCertificate(),
	}
	Expect(os.Mkdir(w.Config, 0o700)).To(Succeed())
	DeferCleanup(w.close)
	w.Policy = Policy{
		Name:    "emergency",
		Issuers: []PolicyIssuer{{Name: "sso", URL: w.Issuer.URL, JWKS: Inline(JWKS(w.Issuer.Key))}},
		Roles:   []Role{{Name: "db", Group: "db-oncall"}, {Name: "web", Group: "web"}},
		Limits:  "{maxOpen: 1000, maxPerDay: 1000}",
	}
	w.Write("gateway.yaml", Class("emergency", "emergency"), w.Gateway(), w.Certificate(), Service("echo", w.Backend.Port()))
	w.WritePolicy()
	return w
}

// Gateway "door", with more listeners if there are any.
func (w *World) Gateway(more ...string) string {
	https := Listener("https", w.HTTPS, "*.example.test")
	https = https[:len(https)-1] + ", tls: {certificateRefs: [{name: door}]}}"
	return Gateway("door", "emergency", append([]string{
		Listener("http", w.HTTP, "*.example.test"), replaceOnce(https, "protocol: HTTP", "protocol: HTTPS"),
	}, more...)...)
}

// WritePolicy writes the policy as it is now.
func (w *World) WritePolicy() time.Time {
	GinkgoHelper()
	return w.Write("policy.yaml", w.Policy.YAML())
}

// Write replaces a manifest file as a whole, as `git checkout` or `kubectl`'s
// atomic writers do, and returns when it was there: a busy disk may take its time
// until then.
func (w *World) Write(name string, docs ...string) time.Time {
	GinkgoHelper()
	path := filepath.Join(w.Config, name)
	temporary := filepath.Join(w.Dir, "new-"+name)
	Expect(os.WriteFile(temporary, []byte(Docs(docs...)), 0o600)).To(Succeed())
	Expect(os.Rename(temporary, path)).To(Succeed())
	return time.Now()
}

// Remove takes a manifest file away.
func (w *World) Remove(name string) {
	GinkgoHelper()
	Expect(os.Remove(filepath.Join(w.Config, name))).To(Succeed())
}

// Token that holds the role db.
func (w *World) Token() string {
	GinkgoHelper()
	return w.Issuer.Token("db-oncall")
}

var unique atomic.Int64

// Unique is a word that was not used before, for names and paths.
func (w *World) Unique() string { return fmt.Sprintf("u%d", unique.Add(1)) }

// close ends what runs and, unless the spec failed or BREAKGLASS_TEST_KEEP is
// set, removes the directory.
func (w *World) close() {
	if w.serve != nil {
		w.serve.kill()
	}
	w.killLeftovers()
	if CurrentSpecReport().Failed() {
		w.report()
		return
	}
	if os.Getenv("BREAKGLASS_TEST_KEEP") != "" {
		return
	}
	Expect(os.RemoveAll(w.Dir)).To(Succeed())
}

// Certificate is the Secret that the HTTPS listener of the Gateway names.
func (w *World) Certificate() string { return w.certificate.secret("door") }
