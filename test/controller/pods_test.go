//go:build apiserver

package controller_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/controller/fleet"
	"github.com/breakglass-gateway/breakglass-gateway/internal/ports"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// replica is one replica of the controller.
type replica struct {
	*process
	c            *cluster
	name, dir    string
	xds, metrics int
	args         []string
}

// controller starts a replica. Its data directory outlives it.
func (c *cluster) controller(name string) *replica {
	GinkgoHelper()
	return c.controllerBehind(name, c.serviceAccount("breakglass-controller"))
}

// controllerBehind starts one that reaches the API server by a kubeconfig.
func (c *cluster) controllerBehind(name, kubeconfig string) *replica {
	GinkgoHelper()
	r := &replica{c: c, name: name, dir: c.file(name), xds: testbed.FreePort(), metrics: testbed.FreePort()}
	var set appsv1.StatefulSet
	Expect(c.admin.Get(context.Background(), types.NamespacedName{Namespace: release, Name: "breakglass-controller"}, &set)).To(Succeed())
	Expect(os.WriteFile(c.file("controller.yaml"), []byte(set.Spec.Template.Annotations["breakglass.dev/config"]), 0o600)).To(Succeed())
	r.args = []string{
		"controller", "--config", c.file("controller.yaml"), "--kubeconfig", kubeconfig, "--namespace", release,
		"--data-dir", r.dir, "--xds-address", fmt.Sprintf("%s:%d", podIP, r.xds), "--metrics-address", fmt.Sprintf("127.0.0.1:%d", r.metrics),
	}
	r.restart()
	return r
}

func (r *replica) restart() {
	GinkgoHelper()
	r.process = startIn(nil, r.name, r.args...)
}

// ready is what /readyz says: "" for ready.
func (r *replica) ready() string {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", r.metrics)) //nolint:noctx // loopback
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusOK {
		return ""
	}
	return string(text)
}

// pod is what runs in one pod of the emergency Gateway's fleet, in a network namespace
// of its own.
type pod struct {
	agent, envoy         *process
	address              string // host:port of the Gateway
	enter                []string
	agentArgs, envoyArgs []string
}

// pods is how many there were, for their addresses.
var pods int

// pod starts one, connected to a replica.
func (c *cluster) pod(name string, to *replica) *pod {
	GinkgoHelper()
	return c.podOf(name, to, "emergency")
}

// podOf has the certificate of the emergency Gateway, and says that it is one of says.
func (c *cluster) podOf(name string, to *replica, says string) *pod {
	GinkgoHelper()
	gateway := types.NamespacedName{Namespace: release, Name: "emergency"}
	tls := c.file("tls-" + name)
	Expect(os.MkdirAll(tls, 0o700)).To(Succeed())
	var secret corev1.Secret
	Eventually(func() error {
		return c.admin.Get(context.Background(), types.NamespacedName{Namespace: release, Name: fleet.SecretName(gateway)}, &secret)
	}).Should(Succeed())
	for key, value := range secret.Data {
		Expect(os.WriteFile(filepath.Join(tls, key), value, 0o600)).To(Succeed())
	}
	p := newSandbox()
	p.address = fmt.Sprintf("%s:%d", p.address, ports.ContainerPort(int32(c.port)))
	common := []string{"--gateway", release + "/" + says, "--run-dir", GinkgoT().TempDir(), "--audit-dir", c.file("audit-" + name)}
	p.agentArgs = append([]string{
		"agent", "--pod", name, "--controller", fmt.Sprintf("%s:%d", podIP, to.xds), "--server-name", "breakglass-controller." + release + ".svc", "--tls-dir", tls,
	}, common...)
	p.envoyArgs = append([]string{"envoy", "--envoy", testbed.EnvoyPath(), "--concurrency", "1"}, common...)
	p.agent = startIn(p.enter, "agent of "+name, p.agentArgs...)
	p.envoy = startIn(p.enter, "envoy of "+name, p.envoyArgs...)
	return p
}

// newSandbox makes a network namespace that is connected to this one.
func newSandbox() *pod {
	GinkgoHelper()
	pods++
	hold := exec.Command("unshare", "--net", "--kill-child", "sleep", "infinity")
	hold.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	Expect(hold.Start()).To(Succeed())
	DeferCleanup(func() { _ = hold.Process.Kill(); _ = hold.Wait() })
	pid, own := fmt.Sprint(hold.Process.Pid), mustNetNS("self")
	Eventually(func() string { return mustNetNS(pid) }).ShouldNot(Equal(own))
	p := &pod{address: fmt.Sprintf("10.78.%d.2", pods), enter: []string{"nsenter", "--net=/proc/" + pid + "/ns/net"}}
	link, gateway := fmt.Sprintf("pod%d", pods), fmt.Sprintf("10.78.%d.1", pods)
	run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", pid)
	run("ip", "addr", "add", gateway+"/30", "dev", link)
	run("ip", "link", "set", link, "up")
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"addr", "add", p.address + "/30", "dev", "eth0"}, {"link", "set", "eth0", "up"}, {"route", "add", "default", "via", gateway},
	} {
		run(append(append(p.enter[:2:2], "ip"), args...)...)
	}
	return p
}

func mustNetNS(pid string) string {
	GinkgoHelper()
	ns, err := os.Readlink("/proc/" + pid + "/ns/net")
	Expect(err).NotTo(HaveOccurred())
	return ns
}

func run(args ...string) {
	GinkgoHelper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput() //nolint:gosec // of this file
	Expect(err).NotTo(HaveOccurred(), string(out))
}

// status of a GET through the Gateway; 0 if nobody answers.
func (p *pod) status(host, path, token string) func() int {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", p.address)
	}}
	DeferCleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	return func() int {
		req, err := http.NewRequest(http.MethodGet, "http://"+host+path, nil) //nolint:noctx // the client's timeout
		if err != nil {
			return -1
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
}
