//go:build envoy

package pod

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// pod is the two containers of a pod, and the world around it. The world's data
// directory is the pod's audit directory.
type pod struct {
	*testbed.World
	plane        *plane
	tls          string
	metrics      string
	agentArgs    []string // besides the usual ones
	agent, envoy *process
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

const route = "orders"

// newPod has a route that is open for an hour; nothing runs yet. change, if there is
// one, is of the policy.
func newPod(change ...func(*testbed.Policy)) *pod {
	GinkgoHelper()
	w := testbed.New()
	for _, f := range change {
		f(&w.Policy)
		w.WritePolicy()
	}
	w.Write("route.yaml", testbed.Route{Name: route}.YAML(), testbed.Activation{Name: "open", Routes: []string{route}, Duration: "1h", NotAfter: time.Now().Add(2 * time.Hour)}.YAML())
	p := &pod{World: w, tls: filepath.Join(w.Dir, "tls")}
	p.plane = newPlane(w)
	Expect(os.MkdirAll(p.tls, 0o700)).To(Succeed())
	p.certify(p.plane.authority, pki.Client("pay", "door"))
	p.metrics = net.JoinHostPort("127.0.0.1", fmt.Sprint(testbed.FreePort()))
	DeferCleanup(func() {
		for _, x := range []*process{p.envoy, p.agent} {
			if x != nil {
				_ = x.cmd.Process.Kill() // gone already is fine
				<-x.done
			}
		}
		if CurrentSpecReport().Failed() {
			for _, name := range []string{"agent.log", "envoy.log", "service.log"} {
				text, _ := os.ReadFile(filepath.Join(w.Dir, name)) // none is fine
				GinkgoWriter.Printf("%s:\n%s\n", name, tail(string(text), 40))
			}
		}
	})
	return p
}

func tail(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// certify writes a certificate as kubelet does.
func (p *pod) certify(a *pki.Authority, s pki.Subject) {
	GinkgoHelper()
	p.certifyIn(p.tls, a, s)
}

func (p *pod) certifyIn(dir string, a *pki.Authority, s pki.Subject) {
	GinkgoHelper()
	data, err := a.Issue(s, time.Now())
	Expect(err).NotTo(HaveOccurred())
	data[pki.KeyTrusted] = p.plane.authority.Trusted()
	version := filepath.Join(dir, ".."+p.Unique())
	Expect(os.Mkdir(version, 0o700)).To(Succeed())
	for name, value := range data {
		Expect(os.WriteFile(filepath.Join(version, name), value, 0o600)).To(Succeed())
		if _, err := os.Lstat(filepath.Join(dir, name)); os.IsNotExist(err) {
			Expect(os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name))).To(Succeed())
		}
	}
	link := filepath.Join(dir, "..data_tmp")
	Expect(os.Symlink(filepath.Base(version), link)).To(Succeed())
	Expect(os.Rename(link, filepath.Join(dir, "..data"))).To(Succeed())
}

func (p *pod) spawn(name string, args ...string) *process {
	GinkgoHelper()
	args = append(args, "--gateway", "pay/door", "--run-dir", filepath.Join(p.Dir, "run"), "--audit-dir", p.Data, "--log-format", "text")
	return p.run(name, append([]string{name}, args...)...)
}

// run starts breakglass; what it says goes to a file of that name.
func (p *pod) run(name string, args ...string) *process {
	GinkgoHelper()
	cmd := exec.Command(testbed.Binary(), args...)
	log, err := os.OpenFile(filepath.Join(p.Dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	Expect(err).NotTo(HaveOccurred())
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	Expect(cmd.Start()).To(Succeed())
	x := &process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its state is looked at
		close(x.done)
	}()
	return x
}

func (p *pod) startAgent() {
	GinkgoHelper()
	p.agent = p.spawn("agent", append([]string{"--pod", "pod-1", "--tls-dir", p.tls, "--controller", p.plane.address, "--server-name", serverName, "--metrics-address", p.metrics}, p.agentArgs...)...)
}

func (p *pod) startEnvoy(more ...string) {
	GinkgoHelper()
	p.envoy = p.spawn("envoy", append([]string{"--envoy", testbed.EnvoyPath(), "--drain-least", "500ms", "--drain-most", "30s"}, more...)...)
}

// start both, and wait until the pod is ready.
func (p *pod) start() {
	GinkgoHelper()
	p.startAgent()
	p.startEnvoy()
	p.awaitReady()
}

func (p *pod) awaitReady() {
	GinkgoHelper()
	Eventually(p.ready).Should(Equal("ok\n"))
}

// ready is the answer of /readyz.
func (p *pod) ready() string {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + p.metrics + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) // what there is will do
	return string(text)
}

func (x *process) kill() {
	GinkgoHelper()
	Expect(x.cmd.Process.Kill()).To(Succeed())
	Eventually(x.done).Should(BeClosed())
}

// end in order, as kubelet does.
func (x *process) end() {
	GinkgoHelper()
	Expect(x.cmd.Process.Signal(syscall.SIGTERM)).To(Succeed())
	Eventually(x.done, 40*time.Second).Should(BeClosed())
	Expect(x.cmd.ProcessState.ExitCode()).To(BeZero())
}

// signalEnvoy asks it to end, and does not wait.
func (p *pod) signalEnvoy() {
	GinkgoHelper()
	Expect(p.envoy.cmd.Process.Signal(syscall.SIGTERM)).To(Succeed())
}

func (p *pod) path() string { return "/api/" + p.Unique() }

// expectExactlyOnce checks that there is exactly one entry for each request, and no other.
func (p *pod) expectExactlyOnce(prefix string, answers map[string]int) {
	GinkgoHelper()
	logged := p.Logged(audit.TypeEnd, prefix)
	for path, status := range answers {
		Expect(logged[path]).To(HaveLen(1), "entries of %s, which was answered %d", path, status)
		Expect(logged[path][0].Status).To(BeEquivalentTo(status), path)
		Expect(logged[path][0].Gateway).To(Equal("pay/door"))
	}
	Expect(logged).To(HaveLen(len(answers)))
}

// settled waits until as many requests are in the log.
func (p *pod) settled(prefix string, n int) {
	GinkgoHelper()
	Eventually(func() int { return len(p.Logged(audit.TypeEnd, prefix)) }).Should(BeNumerically(">=", n))
}

func (p *pod) verify() {
	GinkgoHelper()
	out, err := exec.CommandContext(context.Background(), testbed.Binary(), "audit", "verify", "--data-dir", p.Data).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
}

// answerHead is the head of an answer as it came: net/http takes from it what is
// about the connection.
func (p *pod) answerHead(path string) string {
	GinkgoHelper()
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", p.HTTP), 2*time.Second)
	Expect(err).NotTo(HaveOccurred())
	defer conn.Close()
	Expect(conn.SetDeadline(time.Now().Add(5 * time.Second))).To(Succeed())
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, testbed.Host(route), p.Token())
	Expect(err).NotTo(HaveOccurred())
	text := make([]byte, 4096)
	n, err := conn.Read(text)
	Expect(err).NotTo(HaveOccurred())
	head, _, _ := strings.Cut(string(text[:n]), "\r\n\r\n")
	return head + "\r\n"
}
