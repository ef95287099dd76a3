//go:build apiserver

package controller_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// component is a process of the control plane, found by its command line.
type component struct {
	name string
	pid  int
	args []string
}

func (c *cluster) component(name string) *component {
	GinkgoHelper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	Expect(err).NotTo(HaveOccurred())
	mine := "--etcd-servers=" + c.env.ControlPlane.Etcd.URL.String()
	if name == "etcd" {
		mine = "--data-dir=" + c.env.ControlPlane.Etcd.DataDir
	}
	for _, file := range dirs {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if filepath.Base(args[0]) == name && strings.Contains(strings.Join(args, " "), mine) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			Expect(err).NotTo(HaveOccurred())
			return &component{name: name, pid: pid, args: args}
		}
	}
	Fail("there is no process " + name + " with " + mine)
	return nil
}

// kill is kill -9.
func (p *component) kill() {
	GinkgoHelper()
	Expect(syscall.Kill(p.pid, syscall.SIGKILL)).To(Succeed())
	Eventually(func() error {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
		if err == nil && len(text) == 0 {
			err = os.ErrProcessDone // it waits for its parent to look
		}
		return err
	}).ShouldNot(Succeed())
}

// start runs it again as it was.
func (p *component) start() {
	GinkgoHelper()
	cmd := exec.Command(p.args[0], p.args[1:]...) //nolint:gosec // as envtest did
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	Expect(cmd.Start()).To(Succeed())
	p.pid = cmd.Process.Pid
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	DeferCleanup(func() { _ = cmd.Process.Kill(); <-done })
}

var _ = Describe("Without an API server", func() {
	It("what is live goes on, what is due ends on time, and a replica or an Envoy that starts meanwhile serves what was last good", func() {
		w := newPair()
		api := w.component("kube-apiserver")
		db, other, otherThere := w.get(w.ofLeader, "db"), w.get(w.ofLeader, "other"), w.get(w.ofFollower, "other")
		w.activate("short", "db", "12s")
		w.activate("long", "other", "10m")
		Eventually(w.phase("short")).Should(Equal("Live Live"))
		Eventually(w.phase("long")).Should(Equal("Live Live"))
		deadline := w.activation("short").Status.Deadline.Time
		Eventually(func() string { // it is written every other second
			text, _ := os.ReadFile(filepath.Join(w.follower.dir, "objects.json"))
			return string(text)
		}).Should(ContainSubstring(testbed.Host("other")))
		api.kill()
		w.follower.kill()
		w.ofFollower.envoy.kill()
		w.follower.restart()
		w.ofFollower.envoy = startIn(w.ofFollower.enter, "envoy of pod-1, again", w.ofFollower.envoyArgs...)
		Eventually(otherThere).Should(Equal(200))
		Expect(w.follower.ready()).To(ContainSubstring("the API server cannot be reached"))
		// Not more often than the policy lets a client ask.
		for tick := time.NewTicker(2 * time.Millisecond); time.Until(deadline) > 0; <-tick.C {
			before := time.Now()
			status := db()
			if time.Now().Before(deadline) {
				Expect(status).To(Equal(200))
			} else if !before.Before(deadline) {
				Expect(status).NotTo(Equal(200))
			}
		}
		Eventually(db).Should(Equal(404))
		Consistently(w.get(w.ofFollower, "db"), "300ms", "5ms").ShouldNot(Equal(200))
		Expect(other()).To(Equal(200))

		api.start()
		Eventually(w.phase("short"), "60s").Should(Equal("Expired DeadlinePassed"))
		Eventually(func() string { return w.leader.ready() + w.follower.ready() }, "60s").Should(BeEmpty())
		w.activate("again", "db", "10m")
		Eventually(db).Should(Equal(200))
		w.revoke("long")
		Eventually(other).Should(Equal(404))
		Eventually(otherThere).Should(Equal(404))
	})
})

var _ = Describe("An etcd that was restored from a copy", func() {
	It("reopens nothing", func() {
		w := newPair()
		db, other := w.get(w.ofLeader, "db"), w.get(w.ofLeader, "other")
		w.activate("revoked", "db", "10m")
		w.activate("deleted", "other", "10m")
		Eventually(w.phase("revoked")).Should(Equal("Live Live"))
		Eventually(w.phase("deleted")).Should(Equal("Live Live"))

		etcd, api := w.component("etcd"), w.component("kube-apiserver")
		data, copied := w.env.ControlPlane.Etcd.DataDir, w.file("etcd-copy")
		Expect(syscall.Kill(etcd.pid, syscall.SIGSTOP)).To(Succeed())
		run("cp", "-a", data, copied)
		Expect(syscall.Kill(etcd.pid, syscall.SIGCONT)).To(Succeed())

		w.revoke("revoked")
		Eventually(w.phase("revoked")).Should(Equal("Revoked Revoked"))
		Expect(w.admin.Delete(context.Background(), w.activation("deleted"))).To(Succeed())
		Eventually(db).Should(Equal(404))
		Eventually(other).Should(Equal(404))

		api.kill()
		etcd.kill()
		run("rm", "-rf", data)
		run("cp", "-a", copied, data)
		etcd.start()
		api.start()
		closed := func() bool { return db() != 200 && other() != 200 }
		for _, name := range []string{"revoked", "deleted"} {
			Eventually(func() string {
				Expect(closed()).To(BeTrue())
				return w.phase(name)()
			}, "60s").Should(HavePrefix("Re")) // Revoked, or Refused as a name that is spent
		}
		w.leader.kill()
		w.leader.restart()
		Eventually(w.leader.ready, "60s").Should(BeEmpty())
		Consistently(closed, "1s", "5ms").Should(BeTrue())
	})
})

var _ = Describe("A node whose clock is not the API server's", func() {
	It("opens nothing, says so, and keeps what is open", func() {
		c := newCluster()
		date := &atomic.Int64{}
		r := c.controllerBehind("controller-0", c.shifted(date))
		p := c.pod("pod-0", r)
		c.route("db")
		c.route("other")
		Eventually(r.ready).Should(BeEmpty())
		token := c.issuer.Token("sre")
		db, other := p.status(testbed.Host("db"), "/api/x", token), p.status(testbed.Host("other"), "/api/x", token)
		c.activate("inc-1", "db", "10m")
		Eventually(db).Should(Equal(200))
		date.Store(int64(10 * time.Second))
		c.activate("poke", "db", "1s")
		Eventually(r.ready).Should(ContainSubstring("clock"))
		c.activate("inc-2", "other", "10m")
		Eventually(c.phase("inc-2")).Should(Equal("Pending NotOpening"))
		Expect(db()).To(Equal(200))
		Expect(other()).To(Equal(404))
		date.Store(0)
		Eventually(other).Should(Equal(200))
	})
})

// shifted is a way to the API server on which the time is another.
func (c *cluster) shifted(by *atomic.Int64) string {
	GinkgoHelper()
	transport, err := rest.TransportFor(c.env.Config)
	Expect(err).NotTo(HaveOccurred())
	target, err := url.Parse(c.env.Config.Host)
	Expect(err).NotTo(HaveOccurred())
	proxy := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(resp *http.Response) error {
			at, err := http.ParseTime(resp.Header.Get("Date"))
			if err == nil {
				resp.Header.Set("Date", at.Add(time.Duration(by.Load())).UTC().Format(http.TimeFormat))
			}
			return err
		},
	}
	s := httptest.NewServer(proxy)
	DeferCleanup(s.CloseClientConnections)
	cfg, err := clientcmd.LoadFromFile(c.serviceAccount("breakglass-controller"))
	Expect(err).NotTo(HaveOccurred())
	for _, cl := range cfg.Clusters {
		cl.Server, cl.CertificateAuthorityData, cl.CertificateAuthority = s.URL, nil, ""
	}
	for _, u := range cfg.AuthInfos {
		u.ClientCertificateData, u.ClientKeyData, u.ClientCertificate, u.ClientKey = nil, nil, "", ""
	}
	path := c.file("shifted.kubeconfig")
	Expect(clientcmd.WriteToFile(*cfg, path)).To(Succeed())
	return path
}
