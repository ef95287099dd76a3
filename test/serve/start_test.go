//go:build envoy

package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// journal of a world's control entries.
func journal(w *testbed.World) string { return filepath.Join(w.Data, "journal", "control.jsonl") }

// edit changes a file.
func edit(path string, change func([]byte) []byte) {
	GinkgoHelper()
	b, err := os.ReadFile(path)
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(path, change(b), 0o600)).To(Succeed())
}

// refusesToStart runs serve, which must give up, and returns what it says.
func refusesToStart(w *testbed.World, args ...string) string {
	GinkgoHelper()
	cmd := exec.Command(testbed.Binary(), append([]string{"serve", "--metrics-address", ""}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	Expect(cmd.Start()).To(Succeed())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		Expect(err).To(HaveOccurred(), "it ended without an error: %s", out.String())
	case <-time.After(5 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
		Fail("it goes on: " + out.String())
	}
	Expect(w.Envoys()).To(BeEmpty())
	return out.String()
}

var _ = Describe("serve", func() {
	DescribeTable("does not start, and says why and what to do,", func(prepare func(w *testbed.World) []string, words ...string) {
		w := testbed.New()
		said := refusesToStart(w, prepare(w)...)
		for _, word := range words {
			Expect(said).To(ContainSubstring(strings.ReplaceAll(word, "DIR", w.Dir)))
		}
		Expect(said).NotTo(ContainSubstring("goroutine "), "a panic")
	},
		Entry("without a configuration directory", func(w *testbed.World) []string {
			return []string{"--config", w.Dir + "/none", "--data-dir", w.Data, "--envoy", testbed.EnvoyPath()}
		}, "DIR/none", "create it"),
		Entry("with a file for a configuration directory", func(w *testbed.World) []string {
			return []string{"--config", w.Config + "/policy.yaml", "--data-dir", w.Data, "--envoy", testbed.EnvoyPath()}
		}, "policy.yaml", "not a directory"),
		Entry("with a file for a data directory", func(w *testbed.World) []string {
			return []string{"--config", w.Config, "--data-dir", w.Config + "/policy.yaml", "--envoy", testbed.EnvoyPath()}
		}, "policy.yaml"),
		Entry("in a directory that others use", func(w *testbed.World) []string {
			Expect(os.MkdirAll(w.Data, 0o755)).To(Succeed())
			Expect(os.WriteFile(w.Data+"/theirs", nil, 0o600)).To(Succeed())
			return []string{"--config", w.Config, "--data-dir", w.Data, "--envoy", testbed.EnvoyPath()}
		}, "DIR/data", "chmod"),
		Entry("in a directory whose path is too long for a socket", func(w *testbed.World) []string {
			return []string{"--config", w.Config, "--data-dir", w.Data + strings.Repeat("/0123456789", 9), "--envoy", testbed.EnvoyPath()}
		}, "shorter"),
		Entry("with metrics on an address that others reach", func(w *testbed.World) []string {
			return []string{"--config", w.Config, "--data-dir", w.Data, "--envoy", testbed.EnvoyPath(), "--metrics-address", "0.0.0.0:0"}
		}, "loopback"),
	)

	It("without an Envoy where it was told to look is not ready, and says where it looked", func() {
		w := testbed.New()
		w.Args = []string{"--envoy", "/nowhere/envoy"}
		w.Spawn()
		Eventually(func() string { return w.NotReady() + w.Log() }).Should(ContainSubstring("/nowhere/envoy"))
		if w.Alive() {
			Eventually(w.NotReady).Should(And(ContainSubstring("Envoy"), ContainSubstring("/nowhere/envoy")))
		}
	})

	It("does not start on a journal that was changed", func() {
		w, _ := faulty("10m")
		w.StopServe()
		edit(journal(w), func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"duration":"10m"`), []byte(`"duration":"24h"`), 1)
		})
		said := refusesToStart(w, "--config", w.Config, "--data-dir", w.Data, "--envoy", testbed.EnvoyPath())
		Expect(said).To(ContainSubstring("control.jsonl"))
	})

	It("starts on a journal whose last line a crash has cut, and knows the rest", func() {
		w, deadline := faulty("10m")
		w.KillServe()
		edit(journal(w), func(b []byte) []byte { return append(b, `{"seq":99,"time":"2026-`...) })
		w.Start()
		w.AwaitPhase("a", "Live")
		Expect(w.Deadline("a")).To(BeTemporally("==", deadline))
		Expect(w.Log()).To(ContainSubstring("journal repaired"))
	})

	DescribeTable("opens nothing of a journal that was restored from before a revocation", func(forgotten string) {
		w, _ := faulty("10m")
		old, err := os.ReadFile(journal(w))
		Expect(err).NotTo(HaveOccurred())
		w.Revoke("a")
		w.StopServe()
		Expect(os.WriteFile(journal(w), old, 0o600)).To(Succeed())
		if forgotten != "" {
			Expect(os.RemoveAll(filepath.Join(w.Data, forgotten))).To(Succeed())
		}
		w.Start()
		Eventually(w.Phase("a")).Should(Or(HavePrefix("Revoked"), HavePrefix("Refused")))
		staysClosed(w, "open")
		Expect(w.Message("a")).NotTo(BeEmpty())
		By("what is new opens all the same")
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"open"}, Duration: "10m"})
	},
		Entry("with everything else as it was", ""),
		Entry("with its number gone, by what the audit log knows", "journal.seq"),
		Entry("with the audit log gone, by its number", "log"),
	)

	It("opens nothing of a journal that was lost while the rest was not", func() {
		w, _ := faulty("10m")
		w.StopServe()
		Expect(os.RemoveAll(filepath.Dir(journal(w)))).To(Succeed())
		w.Spawn()
		Eventually(func() string {
			if !w.Alive() {
				return "gave up" // which is as closed
			}
			return w.Phase("a")()
		}).Should(Or(HavePrefix("Refused"), HavePrefix("Revoked"), Equal("gave up")), w.Log)
		if w.Alive() {
			Eventually(w.Accepts).Should(Succeed())
			staysClosed(w, "open")
		}
	})

	It("starts on a journal of two thousand activations, adopts its Envoy and knows every name", func() {
		w, deadline := faulty("10m")
		w.Activate(testbed.Activation{Name: "spent", Routes: []string{"dormant"}, Duration: "10m"})
		w.Revoke("spent")
		w.AwaitPhase("spent", "Revoked")
		g := watch(w)
		w.KillServe()
		lengthen(w, "spent", 2_000)
		began := time.Now()
		w.Start()
		testbed.Figure("start on a journal of 2,000 activations", time.Since(began))
		w.AwaitPhase("a", "Live")
		Expect(w.Deadline("a")).To(BeTemporally("==", deadline))
		w.Write("b.yaml", testbed.Activation{Name: "spent-1999", Routes: []string{"dormant"}, Duration: "10m"}.YAML())
		w.AwaitPhase("spent-1999", "Refused NameSpent")
		staysClosed(w, "dormant")
		g.undisturbed()
	})
})

// lengthen adds activations to the journal that ended a month ago as one of it
// did. Its serve must not run.
func lengthen(w *testbed.World, name string, n int) {
	GinkgoHelper()
	j, err := audit.Open(filepath.Dir(journal(w)), audit.Options{Log: slog.New(slog.DiscardHandler)})
	Expect(err).NotTo(HaveOccurred())
	var last json.RawMessage
	Expect(j.Replay(func(e audit.Entry) error {
		if e.Kind == audit.KindActivation && bytes.Contains(e.Data, []byte(`"`+name+`"`)) {
			last = e.Data
		}
		return nil
	})).To(Succeed())
	Expect(string(last)).To(ContainSubstring(`"Revoked"`))
	month := regexp.MustCompile(`"20\d\d-\d\d-`)
	ago := []byte(time.Now().AddDate(0, -1, 0).Format(`"2006-01-`))
	var entries []audit.Entry
	for i := range n {
		data := bytes.ReplaceAll(last, []byte(`"`+name+`"`), fmt.Appendf(nil, `"%s-%d"`, name, i))
		entries = append(entries, audit.Entry{Kind: audit.KindActivation, Data: month.ReplaceAll(data, ago)})
	}
	for group := range slices.Chunk(entries, 500) {
		Expect(j.Append(context.Background(), group...)).To(Succeed())
	}
	Expect(j.Close()).To(Succeed())
}
