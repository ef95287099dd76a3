//go:build envoy

package serve

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// dormantRoute writes a route of its own to the shared world.
func dormantRoute() string {
	GinkgoHelper()
	name := shared.Unique()
	shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
	Eventually(func() bool { return shared.RouteStatus(name) != nil }).Should(BeTrue())
	return name
}

// activate runs `breakglass activate` in the shared world and returns what it
// says.
func activate(route string, more ...string) (string, error) {
	GinkgoHelper()
	return shared.Run(append([]string{"activate", "pay/" + route, "--role", "db", "--incident", "INC-4711", "--reason", "primary is gone", "--duration", "10m"}, more...)...)
}

// nobody is a user with no rights (nobody, 65534 on every Linux).
var nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}

var _ = Describe("The command line", func() {
	It("opens a route, and the curl line that it prints works", func() {
		route := dormantRoute()
		began := time.Now()
		out, err := activate(route)
		Expect(err).NotTo(HaveOccurred(), out)
		testbed.Figure("breakglass activate: the command returns", time.Since(began))
		Expect(out).To(And(ContainSubstring("Live"), ContainSubstring("INC-4711"), ContainSubstring("Open until")))
		Expect(shared.H1().Get(testbed.Host(route), "/api/x", shared.Token())).To(haveStatus(200), "not open although the command says Live")

		lines := regexp.MustCompile(`(?m)^\s*(curl .*)$`).FindAllStringSubmatch(out, -1)
		Expect(lines).NotTo(BeEmpty(), out)
		for _, l := range lines {
			// The certificate is our own; a method that the backend does not know is none of curl's.
			cmd := exec.Command("bash", "-c", l[1]+` -sS -k -o /dev/null -w '%{http_code}'`)
			cmd.Env = append(os.Environ(), "TOKEN="+shared.Token())
			code, err := cmd.CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s: %s", l[1], code)
			Expect(string(code)).To(HaveSuffix("200"), l[1])
		}
	})

	It("closes a route, and nothing is served any more when it returns", func() {
		for range 3 {
			route := dormantRoute()
			name := shared.Unique()
			out, err := activate(route, "--name", name)
			Expect(err).NotTo(HaveOccurred(), out)
			stream := shared.H1().Events("events", testbed.Host(route), "/api/stream", shared.Token())
			stop := probes(shared, testbed.Host(route), "/api/x", shared.Token())
			out, err = shared.Run("revoke", "pay/"+name, "--reason", "false alarm")
			returned := time.Now()
			Expect(err).NotTo(HaveOccurred(), out)
			Expect(out).To(ContainSubstring("Revoked"))
			testbed.WaitUntil(returned.Add(30 * time.Millisecond))
			last, _ := testbed.LastWith(stop(), 200)
			notAfter(last.Start, returned, late/2, "a request that was served began then")
			Eventually(stream.Done()).Should(BeClosed())
			// Envoy says that it is done a moment before its workers are.
			notAfter(stream.Last(), returned, late, stream)
		}
	})

	It("closes everything at once", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "s"}.YAML(), testbed.Route{Name: "waits", Gateway: "none"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"s"}, Duration: "10m"})
		w.Write("c.yaml", testbed.Activation{Name: "c", Routes: []string{"waits"}, Duration: "10m"}.YAML())
		w.AwaitPhase("c", "Pending RouteNotFound")
		out, err := w.Run("revoke", "--all", "--reason", "over")
		Expect(err).NotTo(HaveOccurred(), out)
		for _, name := range []string{"a", "b", "c"} {
			Expect(w.Phase(name)()).To(HavePrefix("Revoked"))
			Expect(w.Message(name)).To(ContainSubstring("over"))
		}
		staysClosed(w, "r")
		staysClosed(w, "s")
		out, err = w.Run("revoke", "--all")
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(ContainSubstring("Nothing is open"))
	})

	DescribeTable("refuses an activation with what is wrong and what to do", func(args []string, words ...string) {
		route := dormantRoute()
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "ROUTE", route)
		}
		out, err := shared.Run(append([]string{"activate"}, args...)...)
		Expect(err).To(HaveOccurred(), out)
		for _, w := range words {
			Expect(out).To(ContainSubstring(w))
		}
		staysClosed(shared, route)
	},
		Entry("no incident", []string{"pay/ROUTE", "--role", "db", "--reason", "x"}, "incident", "drill"),
		Entry("no reason", []string{"pay/ROUTE", "--role", "db", "--incident", "I"}, "reason"),
		Entry("a role that the route does not carry", []string{"pay/ROUTE", "--role", "web", "--incident", "I", "--reason", "x"}, "RoleMismatch", "db"),
		Entry("a role that nobody defined", []string{"pay/ROUTE", "--role", "root", "--incident", "I", "--reason", "x"}, "RoleNotFound", "db, web"),
		Entry("a route that is not there", []string{"pay/ROUTE-x", "--role", "db", "--incident", "I", "--reason", "x", "--timeout", "100ms"}, "does not exist"),
		Entry("no time at all", []string{"pay/ROUTE", "--role", "db", "--incident", "I", "--reason", "x", "--duration", "0s"}, "1s"),
	)

	It("shows what somebody wrote as text, and not as lines or colours of its own", func() {
		route, forged := dormantRoute(), "x\nFORGED line\r\x1b[31mFORGED\x1b[0m"
		out, err := shared.Run("activate", "pay/"+route, "--role", "db", "--incident", forged, "--reason", forged)
		Expect(err).NotTo(HaveOccurred(), out)
		for _, args := range [][]string{{"status"}, {"status", "-o", "wide"}, {"timeline"}} {
			more, err := shared.Run(args...)
			Expect(err).NotTo(HaveOccurred(), more)
			out += more
		}
		out += shared.Log()
		Expect(out).To(ContainSubstring("FORGED"))
		Expect(out).NotTo(Or(MatchRegexp(`(?m)^\s*FORGED`), ContainSubstring("\x1b"), ContainSubstring("\r")))
	})

	It("does not take a name twice, nor one of a manifest", func() {
		route, name := dormantRoute(), shared.Unique()
		out, err := activate(route, "--name", name)
		Expect(err).NotTo(HaveOccurred(), out)
		for range 2 {
			out, err = activate(route, "--name", name)
			Expect(err).To(HaveOccurred())
			Expect(out).To(ContainSubstring("spent"))
			_, err = shared.Run("revoke", "pay/"+name)
			Expect(err).NotTo(HaveOccurred())
		}
		shared.Activate(testbed.Activation{Name: name + "-m", Routes: []string{route}, Duration: "10m"})
		out, err = activate(route, "--name", name+"-m")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("spent"))
		By("and a manifest cannot take over the name of one that was asked for")
		shared.Write(name+".yaml", testbed.Activation{Name: name, Routes: []string{route}, Duration: "10m"}.YAML())
		Consistently(shared.Phase(name), "100ms").Should(Or(HavePrefix("Revoked"), HavePrefix("Refused")))
	})

	It("keeps an activation that was asked for over SIGKILL of serve", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		out, err := w.Run("activate", "pay/r", "--role", "db", "--incident", "I", "--reason", "x", "--duration", "10m", "--name", "kept")
		Expect(err).NotTo(HaveOccurred(), out)
		deadline := w.Deadline("kept")
		w.KillServe()
		w.Start()
		w.AwaitPhase("kept", "Live")
		Expect(w.Deadline("kept")).To(BeTemporally("==", deadline))
		Expect(w.H1().Get(testbed.Host("r"), "/api/x", w.Token())).To(haveStatus(200))
	})

	It("says everything as JSON, and what is left of each window", func() {
		route, name := dormantRoute(), shared.Unique()
		out, err := activate(route, "--name", name)
		Expect(err).NotTo(HaveOccurred(), out)
		out, err = shared.Run("status", "-o", "json")
		Expect(err).NotTo(HaveOccurred())
		var st control.Status
		Expect(json.Unmarshal([]byte(out), &st)).To(Succeed())
		Expect(st.Gateways).NotTo(BeEmpty())
		i := slices.IndexFunc(st.Routes, func(r control.RouteStatus) bool { return r.Name == route })
		Expect(i).To(BeNumerically(">=", 0))
		Expect(st.Routes[i].Live).To(BeTrue())
		Expect(out).NotTo(ContainSubstring(shared.Token()[:20]), "a token in the status")
		table, err := shared.Run("status")
		Expect(err).NotTo(HaveOccurred())
		Expect(table).To(And(ContainSubstring(name), ContainSubstring(route), MatchRegexp(`9m\s?5\ds`)))
	})

	It("tells who did what", func() {
		route, name := dormantRoute(), shared.Unique()
		since := time.Now().UTC().Format(time.RFC3339Nano)
		out, err := activate(route, "--name", name)
		Expect(err).NotTo(HaveOccurred(), out)
		host, path := testbed.Host(route), "/api/"+name
		Expect(shared.H1().Get(host, path, shared.Token())).To(haveStatus(200))
		Expect(shared.H1().Get(host, path+"-forbidden", shared.Issuer.Token("web"))).To(haveStatus(403))
		Expect(shared.H1().Get(host, path+"-nobody", "")).To(haveStatus(401))
		_, err = shared.Run("revoke", "pay/"+name, "--reason", "false alarm")
		Expect(err).NotTo(HaveOccurred())
		timeline := func() string {
			out, err := shared.Run("timeline", "--since", since)
			Expect(err).NotTo(HaveOccurred(), out)
			return out
		}
		Eventually(timeline, "5s", "50ms").Should(line("request allowed", "alice@example.test", "INC-4711", "HTTPRoute pay/"+route, "GET "+host+path+" 200"))
		Eventually(timeline, "5s", "50ms").Should(And(
			line("request denied", path+"-forbidden", "403"),
			line("request denied", "no valid token", path+"-nobody", "401"),
			line("requested", "uid=0", "pay/"+name, "primary is gone"),
			line("opened", "pay/"+name),
			line("revoked", "pay/"+name, "uid=0", "false alarm"),
		), timeline)
		jsonLines, err := shared.Run("timeline", "--since", since, "-o", "json")
		Expect(err).NotTo(HaveOccurred())
		for l := range strings.Lines(jsonLines) {
			Expect(json.Valid([]byte(l))).To(BeTrue(), l)
		}
		for _, token := range []string{"eyJ", "Bearer"} {
			Expect(jsonLines).NotTo(ContainSubstring(token), "a token on record")
		}
	})

	It("records every change of a policy", func() {
		w := testbed.New()
		w.Start()
		w.Policy.Roles = append(w.Policy.Roles, testbed.Role{Name: "new", Group: "new"})
		w.WritePolicy()
		timeline := func() string {
			out, err := w.Run("timeline")
			Expect(err).NotTo(HaveOccurred(), out)
			return out
		}
		Eventually(func() int { return strings.Count(timeline(), "policy changed") }, "5s", "50ms").Should(Equal(2), timeline)
		w.Remove("policy.yaml")
		Eventually(timeline, "5s", "50ms").Should(line("policy removed", "EmergencyPolicy emergency"))
	})

	It("finds nobody to talk to without serve, and says so", func() {
		w := testbed.New()
		for _, args := range [][]string{{"status"}, {"revoke", "--all"}, {"activate", "pay/r", "--role", "db", "--incident", "I", "--reason", "x"}} {
			out, err := w.Run(args...)
			Expect(err).To(HaveOccurred())
			Expect(out).To(And(ContainSubstring("breakglass serve"), ContainSubstring(w.Data)))
		}
	})
})

var _ = Describe("The control socket", func() {
	It("and all that is in the data directory are for its owner only", func() {
		Expect(filepath.WalkDir(shared.Data, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			Expect(info.Mode().Perm()&0o077).To(BeZero(), "%s is %s", path, info.Mode())
			return nil
		})).To(Succeed())
	})

	It("refuses another user, even one who can reach it", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		ask := func(args ...string) (string, error) {
			cmd := w.Command(args...)
			cmd.SysProcAttr = nobody
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		out, err := ask("status")
		Expect(err).To(HaveOccurred(), out)

		By("with every door to the socket open")
		Expect(os.Chmod(w.Dir, 0o755)).To(Succeed())
		Expect(os.Chmod(w.Data, 0o755)).To(Succeed())
		Expect(os.Chmod(control.SocketPath(w.Data), 0o666)).To(Succeed())
		for _, args := range [][]string{{"status"}, {"timeline"}, {"revoke", "--all"}, {"activate", "pay/r", "--role", "db", "--incident", "I", "--reason", "x"}} {
			out, err := ask(args...)
			Expect(err).To(HaveOccurred(), out)
			Expect(out).To(ContainSubstring("uid 65534 may not call"), fmt.Sprint(args))
		}
		Expect(w.Status().Activations).To(BeEmpty())
	})

	It("is ready only once the door is open", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		for range 3 {
			w.Spawn()
			w.AwaitReady()
			Expect(w.Accepts()).To(Succeed(), "serve says that it is ready, and nobody listens")
			Expect(w.H1().Get(testbed.Host("r"), "/api/x", "")).To(haveStatus(404))
			w.StopServe()
		}
	})
})
