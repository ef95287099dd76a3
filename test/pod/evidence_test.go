//go:build envoy

package pod

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// rounds is how often something is killed: BREAKGLASS_ROUNDS, else a few.
func rounds(few int) int {
	GinkgoHelper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("BREAKGLASS_ROUNDS"), fmt.Sprint(few)))
	Expect(err).NotTo(HaveOccurred())
	return n
}

// outage is how long something is away: BREAKGLASS_OUTAGE, else not for long.
func outage() time.Duration {
	GinkgoHelper()
	d, err := time.ParseDuration(cmp.Or(os.Getenv("BREAKGLASS_OUTAGE"), "3s"))
	Expect(err).NotTo(HaveOccurred())
	return d
}

func atRandom(most time.Duration) { <-time.After(rand.N(most)) }

const rate = 1000

var _ = Describe("The log of the cluster", Label("evidence"), func() {
	var p *pod
	var c *collector
	var prefix string
	var began time.Time // of the load
	BeforeEach(func() {
		p = newPod()
		c = newCollector(p)
		prefix = p.path()
	})
	load := func() *testbed.Load {
		began = time.Now()
		return p.Load(testbed.Host(route), prefix, p.Token(), 32, rate, 100_000_000)
	}
	// stop ends a load, and says how busy it was.
	stop := func(l *testbed.Load) map[string]int {
		answers := l.Stop()
		tell("%.0f requests a second", float64(len(answers))/time.Since(began).Seconds())
		return answers
	}
	// all checks that nothing is lost and nothing doubled.
	all := func(what string, answers map[string]int) {
		GinkgoHelper()
		lost, doubled := c.count(prefix, answers)
		tell("%s: %d requests, %d lost, %d doubled", what, len(answers), lost, doubled)
		Expect(lost).To(BeZero(), "lost")
		Expect(doubled).To(BeZero(), "doubled")
	}

	It("has each request within moments, once, in order, and knows the end", func() {
		c.start()
		p.start()
		answers := p.Load(testbed.Host(route), prefix, p.Token(), 1, 20, 60).Wait()
		quiet := len(answers)
		Eventually(func() int { return len(c.requests(prefix)) }).Should(Equal(quiet))
		c.late("an entry is at the service after, 20 requests a second", prefix)
		busyPrefix := prefix
		prefix = p.path()
		l := load()
		cpu := []time.Duration{cpuOf(p.agent), cpuOf(c.process)}
		<-time.After(2 * time.Second)
		spent := []time.Duration{cpuOf(p.agent) - cpu[0], cpuOf(c.process) - cpu[1]}
		answers = stop(l)
		c.end()
		c.late(fmt.Sprintf("an entry is at the service after, %d requests a second", rate), prefix)
		all("nothing dies", answers)
		tell("CPU at %d requests a second: agent %.1f %%, service %.1f %%", len(answers)/2, spent[0].Seconds()*50, spent[1].Seconds()*50)
		Expect(c.requests(busyPrefix)).To(HaveLen(quiet))
		Expect(c.gaps()).To(BeEmpty())
		events := c.events()
		Expect([]string{events[0], events[len(events)-1]}).To(Equal([]string{"begun", "ended"}))
	})

	It("loses and doubles nothing when agent and service are killed at random", func() {
		c.withCopy()
		c.start()
		p.start()
		l := load()
		kills := map[string]int{}
		for range rounds(4) {
			atRandom(500 * time.Millisecond)
			if rand.IntN(2) == 0 {
				p.agent.kill()
				kills["agent"]++
				atRandom(300 * time.Millisecond)
				p.startAgent()
			} else {
				c.process.kill()
				kills["service"]++
				atRandom(300 * time.Millisecond)
				c.start()
			}
		}
		atRandom(500 * time.Millisecond)
		p.awaitReady()
		answers := stop(l)
		onlyOK(answers)
		Eventually(func() int { return len(c.requests(prefix)) }, "30s", "200ms").Should(Equal(len(answers)))
		tell("a copy of the log by a sink: all of it, %d entries twice", c.copied())
		c.end()
		all(fmt.Sprintf("killed %v", kills), answers)
		Expect(c.gaps()).To(BeEmpty())
	})

	// killAll kills everything at once, again and again, under load.
	killAll := func(kills int) map[string]int {
		GinkgoHelper()
		answers := map[string]int{}
		for range kills {
			prefix = p.path()
			l := load()
			<-time.After(500 * time.Millisecond)
			atRandom(500 * time.Millisecond)
			p.plane.stop()
			for _, x := range []*process{p.envoy, p.agent, c.process} {
				Expect(x.cmd.Process.Kill()).To(Succeed())
			}
			for _, x := range []*process{p.envoy, p.agent, c.process} {
				Eventually(x.done).Should(BeClosed())
			}
			maps.Copy(answers, l.Stop())
			p.plane.start(p.plane.address)
			c.start()
			p.start()
		}
		after := p.Load(testbed.Host(route), p.path(), p.Token(), 2, 100, 50).Wait()
		onlyOK(after)
		maps.Copy(answers, after)
		prefix = "/api/"
		return answers
	}

	It("has, after all was killed at once, what the pod's log has, and that says what it lacks", func() {
		c.start()
		p.start()
		kills := max(1, rounds(2)/5)
		answers := killAll(kills)
		c.end()
		lost, doubled := c.count(prefix, answers)
		gaps := c.gaps()
		for _, g := range gaps {
			Expect(g.AtLeast).To(BeTrue())
		}
		tell("all killed at once, %d times: %d requests, %d answered in the last instant are in no log, %d doubled, %d gaps say so", kills, len(answers), lost, doubled, len(gaps))
		Expect(doubled).To(BeZero())
		Expect(len(gaps)).To(BeNumerically(">=", kills), "each life of an Envoy that nobody saw end is a gap")
		Expect(lost).To(BeNumerically("<=", 32*kills), "one a connection: what Envoy had answered and not handed to the kernel")
	})

	It("has, after all was killed at once under a Strict policy, an intent of whatever was let through", func() {
		p = newPod(func(policy *testbed.Policy) { policy.Mode = "Strict" })
		c = newCollector(p)
		c.start()
		p.start()
		kills := max(1, rounds(2)/5)
		answers := killAll(kills)
		c.end()
		intents, served, lost, doubled := c.requestsOf(audit.TypeIntent, prefix), 0, 0, 0
		for path, status := range answers {
			if status != 200 {
				continue
			}
			served++
			if n := len(intents[path]); n == 0 {
				lost++
			} else if n > 1 {
				doubled++
			}
		}
		tell("all killed at once, Strict, %d times: %d requests were served, %d without an intent, %d doubled", kills, served, lost, doubled)
		Expect(served).To(BeNumerically(">", 100))
		Expect(lost).To(BeZero())
		Expect(doubled).To(BeZero())
	})

	It("has everything after the service was away for long", func() {
		c.start()
		p.start()
		answers := map[string]int{}
		run := func(d time.Duration, perSecond int) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				l := p.Load(testbed.Host(route), prefix+"/"+p.Unique(), p.Token(), 8, perSecond, 100_000_000)
				<-time.After(min(time.Until(end), 30*time.Second)) // tokens do not live longer than a load
				maps.Copy(answers, l.Stop())
			}
		}
		run(time.Second, rate)
		c.process.kill()
		run(outage(), rate/5)
		Expect(p.plane.failures()).To(BeEmpty(), "the pod keeps its log, and serves on")
		Expect(p.metric("breakglass_audit_unshipped_entries")).To(BeNumerically(">", 0))
		Expect(p.metric("breakglass_audit_shipping")).To(BeZero())
		c.start()
		began := time.Now()
		behind := p.metric("breakglass_audit_unshipped_entries")
		Eventually(func() float64 { return p.metric("breakglass_audit_unshipped_entries") }, time.Minute).Should(BeNumerically("<", 200))
		testbed.Figure("what waited is at the service after", time.Since(began))
		tell("%v away: %.0f entries waited", outage(), behind)
		run(time.Second, rate)
		onlyOK(answers)
		c.end()
		all("the service away for "+outage().String(), answers)
		Expect(c.gaps()).To(BeEmpty())
	})

	It("has everything whatever the network does", func() {
		c.start()
		p.start()
		l := load()
		for range rounds(8) {
			atRandom(200 * time.Millisecond)
			c.wire.set([]mood{refuses, resets, stalls, mutes}[rand.IntN(4)])
			atRandom(300 * time.Millisecond)
			c.wire.set(passes)
		}
		By("stalling for longer than a request may take")
		c.wire.set(stalls)
		<-time.After(6 * time.Second)
		c.wire.set(passes)
		answers := stop(l)
		onlyOK(answers)
		c.end()
		all(fmt.Sprintf("the network was cut (%d connections)", c.wire.cut), answers)
		Expect(c.gaps()).To(BeEmpty())
	})

	It("confirms nothing on a full disk, and has everything once there is room", func() {
		small(c.data, 24)
		c.start()
		p.start()
		l := load()
		<-time.After(500 * time.Millisecond)
		ballast := fill(c.data)
		Eventually(c.ready).Should(ContainSubstring("503"))
		Eventually(func() float64 { return p.metric("breakglass_audit_unshipped_entries") }).Should(BeNumerically(">", 500))
		Expect(p.plane.failures()).To(BeEmpty(), "the pod keeps its log, and serves on")
		c.process.kill()
		c.start()
		<-time.After(300 * time.Millisecond)
		Expect(os.Remove(ballast)).To(Succeed())
		Eventually(func() float64 { return p.metric("breakglass_audit_shipping") }).Should(Equal(1.0))
		answers := stop(l)
		onlyOK(answers)
		c.end()
		all("full disk of the service", answers)
		Expect(c.gaps()).To(BeEmpty())
	})

	It("has what a pod logged whose disk was full while the service was away", func() {
		Expect(os.MkdirAll(p.Data, 0o700)).To(Succeed())
		small(p.Data, 24)
		c.start()
		p.start()
		answers := p.Load(testbed.Host(route), prefix, p.Token(), 8, rate, 500).Wait()
		c.process.kill()
		maps.Copy(answers, p.Load(testbed.Host(route), prefix+"/away", p.Token(), 8, rate, 500).Wait())
		ballast := fill(p.Data)
		Eventually(p.plane.told).Should(HaveKeyWithValue("failing", ContainSubstring("free some space")))
		p.agent.kill()
		p.startAgent()
		c.start()
		Eventually(func() int { return len(c.requests(prefix)) }).Should(Equal(len(answers)), "what is in the pod's log is brought from a full disk, too")
		Expect(os.Remove(ballast)).To(Succeed())
		Eventually(p.plane.told).Should(HaveKeyWithValue("failing", ""))
		c.end()
		all("full disk of the pod", answers)
	})

	It("says that a pod is lost which was killed and never came again", func() {
		c.lost = 2 * time.Second
		c.start()
		p.start()
		answers := p.Load(testbed.Host(route), prefix, p.Token(), 2, 200, 100).Wait()
		Eventually(func() int { return len(c.requests(prefix)) }).Should(Equal(len(answers)))
		p.envoy.kill()
		p.agent.kill()
		Eventually(c.gaps).Should(HaveLen(1))
		g := c.gaps()[0]
		Expect(g.AtLeast).To(BeTrue())
		Expect(g.Gateway).To(Equal("pay/door"))
		Eventually(c.events).Should(Equal([]string{"begun", "lost"}))
	})
})

// tell of a figure that is no duration.
func tell(format string, args ...any) { AddReportEntry(fmt.Sprintf(format, args...)) }

// late reports how long after their end requests were in the log of the cluster.
func (c *collector) late(what, prefix string) {
	GinkgoHelper()
	var took []time.Duration
	for _, e := range c.entries() {
		var r audit.RequestEntry
		if e.Kind == audit.KindRequest && json.Unmarshal(e.Data, &r) == nil && len(r.Path) >= len(prefix) && r.Path[:len(prefix)] == prefix {
			took = append(took, e.Time.Sub(r.Start.Add(time.Duration(r.DurationMs*float64(time.Millisecond)))))
		}
	}
	slices.Sort(took)
	for _, d := range took {
		testbed.Figure(what, d)
	}
	p99 := took[len(took)*99/100]
	tell("%s: median %v, p99 %v, most %v", what, took[len(took)/2], p99, took[len(took)-1])
	Expect(took[len(took)/2]).To(BeNumerically("<", 50*time.Millisecond+busy))
}

// cpuOf is how much a process has computed so far: fields 14 and 15 of
// proc_pid_stat(5), in ticks of 10 ms.
func cpuOf(x *process) (total time.Duration) {
	GinkgoHelper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", x.cmd.Process.Pid))
	Expect(err).NotTo(HaveOccurred())
	for _, f := range strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))[11:13] {
		n, err := strconv.Atoi(f)
		Expect(err).NotTo(HaveOccurred())
		total += time.Duration(n) * 10 * time.Millisecond
	}
	return total
}

// small puts a disk of some MiB in the place of a directory.
func small(dir string, mib int) {
	GinkgoHelper()
	Expect(syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mib))).To(Succeed(), "this takes root, to mount a small disk")
	DeferCleanup(func() { Expect(syscall.Unmount(dir, syscall.MNT_DETACH)).To(Succeed()) })
}

// fill a disk to the last byte, and return the file that does.
func fill(dir string) string {
	GinkgoHelper()
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	Expect(err).NotTo(HaveOccurred())
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; _, err = ballast.Write(make([]byte, size)) {
		}
		Expect(err).To(MatchError(syscall.ENOSPC))
	}
	Expect(ballast.Close()).To(Succeed())
	return ballast.Name()
}
