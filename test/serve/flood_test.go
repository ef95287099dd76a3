//go:build envoy

package serve

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/net/http2"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// Strangers come in numbers. Who has a token comes in, what is open goes on, and
// the log has room.
var _ = Describe("A flood", Ordered, func() {
	const (
		host        = "r.example.test"
		connections = 60
	)
	var w *testbed.World
	var good string
	var stream *testbed.Stream

	BeforeAll(func() {
		w = testbed.New()
		w.Args = []string{"--envoy-max-connections", fmt.Sprint(connections)}
		w.Policy.Requests = "{withToken: {perSecond: 1000, burst: 5000}, withoutToken: {perSecond: 10, burst: 50}, allWithoutToken: {perSecond: 20, burst: 80}}"
		w.WritePolicy()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "s"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "30m"})
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"s"}, Duration: "30m"})
		good = w.Token()
		stream = w.H1().Events("events", host, "/api/stream", good)
		Eventually(stream.Open).Should(BeTrue())
	})

	// The slow ones of the first spec, which the last one sees the end of.
	type slow struct {
		conn  net.Conn
		since time.Time
	}
	var slows []slow
	var dialed []net.Conn
	dial := func() net.Conn {
		GinkgoHelper()
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", w.HTTP), 2*time.Second)
		Expect(err).NotTo(HaveOccurred())
		dialed = append(dialed, conn)
		return conn
	}
	AfterAll(func() {
		for _, conn := range dialed {
			_ = conn.Close() // the gateway may have closed it
		}
	})
	// ends is when the gateway ended a connection; zero if it has not by then.
	ends := func(conn net.Conn, by time.Time) time.Time {
		GinkgoHelper()
		Expect(conn.SetReadDeadline(by)).To(Succeed())
		if _, err := io.Copy(io.Discard, conn); err != nil {
			if t, ok := err.(net.Error); ok && t.Timeout() { //nolint:errorlint // net says so of what it returns
				return time.Time{}
			}
		}
		return time.Now()
	}

	It("that takes no answer and resets its streams is a number too, and who tries tokens is seen", func() {
		f := w.H2Frames()
		Expect(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})).To(Succeed()) // no room for a body
		answers, id := map[int]uint64{}, uint32(1)
		ask := func(path string) int {
			id += 2
			Expect(f.Request(id, true, testbed.Field{Name: ":method", Value: "GET"}, testbed.Field{Name: ":scheme", Value: "https"},
				testbed.Field{Name: ":authority", Value: host}, testbed.Field{Name: ":path", Value: path})).To(Succeed())
			status := f.Status(id, 2*time.Second)
			answers[status]++
			return status
		}
		for range 200 {
			ask("/api/reset")
			Expect(f.WriteRSTStream(id, http2.ErrCodeCancel)).To(Succeed())
		}
		Expect(answers).To(And(HaveLen(2), HaveKey(429)))
		reset := answers[401]
		Expect(ask("/api/left")).To(Equal(429))
		Eventually(ask, "2s", "20ms").WithArguments("/api/left").Should(Equal(401))
		f.Close()
		left := func() []audit.RequestEntry { return w.Logged(audit.TypeEnd, "/api/left")["/api/left"] }
		Eventually(func() int { return len(left()) }).Should(Equal(1))

		Eventually(func() uint64 { return refusedByLimit(w) }, "15s", "50ms").Should(Equal(answers[429]))
		denied := append(w.Logged(audit.TypeEnd, "/api/reset")["/api/reset"], left()...)
		Expect(denied).To(HaveLen(int(reset) + 1))
		for _, e := range denied {
			Expect(e.Denied).To(Equal("token: refused"), "%+v", e)
			Expect(e.ResponseFlags).To(BeElementOf("DR", "DC"))
		}
		Expect(w.Entries(audit.KindProblem)).To(BeEmpty())
	})

	It("of connections is refused over the limit, and what is open goes on and is closed as ever", func() {
		for i := range connections {
			conn := dial()
			if i%2 == 0 {
				_, _ = io.WriteString(conn, "GET /api/x HTTP/1.1\r\nHost: "+host+"\r\nX: ") // some are refused already
				slows = append(slows, slow{conn, time.Now()})
			}
		}
		var refused int
		for range 10 {
			conn := dial()
			_, _ = io.WriteString(conn, "GET /api/x HTTP/1.1\r\n") // it may be closed already
			if !ends(conn, time.Now().Add(time.Second)).IsZero() {
				refused++
			}
		}
		Expect(refused).To(Equal(10), "connections over the limit were taken")

		bytes := stream.Bytes()
		Eventually(stream.Bytes).Should(BeNumerically(">", bytes))
		Expect(w.NotReady()).To(BeEmpty())
		// A word from the control plane gets through, and its answer.
		w.Revoke("b")
		Eventually(w.Phase("b")).Should(HavePrefix("Revoked"))
		w.Activate(testbed.Activation{Name: "b2", Routes: []string{"s"}, Duration: "30m"})
		Expect(stream.Open()).To(BeTrue())
	})

	It("of silent connections locks nobody out for longer than they may be silent", func() {
		Expect(w.H1().Get(host, "/api/x", good)).To(haveStatus(0), "there was room all the time")
		Eventually(w.H1().Status(host, "/api/x", good), "7s", "50ms").Should(Equal(200))
	})

	It("without a token is refused, does not count against those who have one, and is a number in the log", func() {
		answers, before := map[int]uint64{}, refusedByLimit(w)
		var mu sync.Mutex
		var all sync.WaitGroup
		stop := make(chan struct{})
		var retry string
		for range 4 {
			c := w.H1()
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					r := c.Get(host, "/api/flood", "")
					mu.Lock()
					answers[r.Status]++
					if r.Status == 429 {
						retry = r.Header.Get("Retry-After")
					}
					mu.Unlock()
				}
			})
		}
		p := w.H1().Probe(testbed.Request{Host: host, Path: "/api/known", Token: good}, 2*time.Millisecond)
		Eventually(func() uint64 {
			mu.Lock()
			defer mu.Unlock()
			return answers[429]
		}, "10s", "10ms").Should(BeNumerically(">", 3000))
		close(stop)
		all.Wait()
		known := p.Stop()
		Expect(len(known)).To(BeNumerically(">", 50))
		onlyStatuses(known, 200)

		Expect(answers).To(HaveLen(2))
		Expect(answers[401]).To(BeNumerically("<", 50+10*15+1), "at most the burst and the rate for as long as it took")
		Expect(retry).To(MatchRegexp(`^[1-9]$`))
		Eventually(func() uint64 { return uint64(len(w.Logged(audit.TypeEnd, "/api/flood")["/api/flood"])) }).Should(Equal(answers[401]))
		Eventually(func() uint64 { return refusedByLimit(w) }, "15s", "50ms").Should(Equal(before + answers[429]))
		Expect(len(w.Logged(audit.TypeEnd, "/api/known")["/api/known"])).To(Equal(len(known)))
		out, err := w.Run("audit", "list", "--kind", "limited")
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(out).To(ContainSubstring("over the rate limit"))
	})

	It("is bounded by what the policy says now, and a change cuts nothing", func() {
		ask := func() (refused int) {
			c := w.H1()
			for range 20 {
				if c.Get(host, "/api/x", good).Status == 429 {
					refused++
				}
			}
			return refused
		}
		Expect(ask()).To(BeZero())
		w.Policy.Requests = "{withToken: {perSecond: 1, burst: 5}}"
		w.WritePolicy()
		Eventually(ask).Should(BeNumerically(">=", 10))
		grpc := w.H1().Do(testbed.Request{Method: "POST", Host: host, Path: "/api/S/M", Token: good, Header: http.Header{"Content-Type": {"application/grpc"}}})
		Expect(grpc).To(haveStatus(200))
		Expect(grpc.Header.Get("Grpc-Status")).To(Equal("8")) // RESOURCE_EXHAUSTED
		Expect(stream.Open()).To(BeTrue(), stream.String)
	})

	It("of slow headers is cut off in time, and none of it is a gap", func() {
		for _, s := range slows {
			by := s.since.Add(12 * time.Second)
			if soon := time.Now().Add(time.Second); by.Before(soon) {
				by = soon // the specs before took long; a deadline that has passed would not let us look
			}
			end := ends(s.conn, by)
			Expect(end).NotTo(BeZero(), "a connection whose headers do not end is still there")
		}
		Expect(stream.Open()).To(BeTrue(), stream.String)
		w.StopServe()
		sound(w)
		Expect(w.Gaps()).To(BeEmpty())
	})
})

// refusedByLimit is what the log says of the rate limit.
func refusedByLimit(w *testbed.World) (n uint64) {
	GinkgoHelper()
	for _, e := range w.Entries(audit.KindLimited) {
		var l audit.Limited
		Expect(json.Unmarshal(e.Data, &l)).To(Succeed())
		n += l.Refused
	}
	return n
}
