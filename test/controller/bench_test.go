//go:build apiserver && bench

package controller_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// samples of one row.
const samples = 25

// percentile of durations, which it sorts.
func percentile(ds []time.Duration, p float64) time.Duration {
	slices.Sort(ds)
	return ds[min(len(ds)-1, int(p*float64(len(ds))))].Round(100 * time.Microsecond)
}

var rss = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak memory of a process, in MB.
func (p *process) peak() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	Expect(err).NotTo(HaveOccurred())
	kb, err := strconv.Atoi(rss.FindStringSubmatch(string(text))[1])
	Expect(err).NotTo(HaveOccurred())
	return kb / 1024
}

// load creates routes that stay dormant.
func (c *cluster) load(from, to int) {
	GinkgoHelper()
	var wg sync.WaitGroup
	work := make(chan int)
	for range 8 {
		wg.Go(func() {
			defer GinkgoRecover()
			for i := range work {
				c.route(fmt.Sprintf("load%d", i))
			}
		})
	}
	for i := from; i < to; i++ {
		work <- i
	}
	close(work)
	wg.Wait()
}

// rounds activates, waits for the first 200, revokes by deletion, and waits for the end.
func (c *cluster) rounds(p *pod, name string) {
	GinkgoHelper()
	token := c.issuer.Token("sre")
	get := p.status(testbed.Host("db"), "/api/x", token)
	var opened, closed []time.Duration
	for i := range samples {
		activation := fmt.Sprintf("%s-%d", name, i)
		began := time.Now()
		c.activate(activation, "db", "10m")
		Eventually(get).WithPolling(500 * time.Microsecond).Should(Equal(200))
		opened = append(opened, time.Since(began))
		Eventually(c.phase(activation)).Should(Equal("Live Live"))
		a := c.activation(activation)
		began = time.Now()
		Expect(c.admin.Delete(context.Background(), a)).To(Succeed())
		Eventually(get).WithPolling(500 * time.Microsecond).Should(Equal(404))
		closed = append(closed, time.Since(began))
	}
	fmt.Printf("| %s | %s / %s / %s | %s / %s |\n", name, percentile(opened, .5), percentile(opened, .95), opened[len(opened)-1].Round(100*time.Microsecond), percentile(closed, .5), percentile(closed, .95))
}

var _ = Describe("How long it takes", Ordered, func() {
	It("from kubectl apply to the first 200", func() {
		c := newCluster()
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		c.route("db")
		Eventually(r.ready).Should(BeEmpty())
		fmt.Println("| routes | create -> 200, p50 / p95 / max | delete -> 404, p50 / p95 |\n|---|---|---|")
		loaded := 1
		for _, n := range []int{1, 100, 1000, 5000} {
			c.load(loaded, n)
			loaded = n
			Eventually(func() int { return c.acceptedRoutes() }, "5m", "1s").Should(Equal(n))
			c.rounds(p, strconv.Itoa(n))
		}
		stop, churned := make(chan struct{}), make(chan int)
		go func() {
			defer GinkgoRecover()
			n := 0
			for tick := time.NewTicker(100 * time.Millisecond); ; n++ {
				select {
				case <-stop:
					churned <- n
					return
				case <-tick.C:
				}
				route := routeOf(fmt.Sprintf("load%d", 1+n%4000))
				Expect(c.admin.Get(context.Background(), clientKey(route), route)).To(Succeed())
				route.Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(fmt.Sprintf("churn%d.example.test", n))}
				Expect(c.admin.Update(context.Background(), route)).To(Succeed())
			}
		}()
		c.rounds(p, "churn")
		close(stop)
		fmt.Printf("changes during churn: %d; controller at most %d MB\n", <-churned, r.peak())
		r.kill()
		Expect(os.RemoveAll(r.dir)).To(Succeed())
		began := time.Now()
		r.restart()
		Eventually(r.ready, "60s").Should(BeEmpty())
		fmt.Printf("cold, empty data directory, 5,000 routes: ready after %s, %d MB\n", time.Since(began).Round(10*time.Millisecond), r.peak())
	})
})

func clientKey(r *gwv1.HTTPRoute) client.ObjectKey { return client.ObjectKeyFromObject(r) }

// acceptedRoutes is how many routes have our word that they are accepted.
func (c *cluster) acceptedRoutes() (n int) {
	var routes gwv1.HTTPRouteList
	if c.admin.List(context.Background(), &routes) != nil {
		return -1
	}
	for _, r := range routes.Items {
		if len(r.Status.Parents) == 1 {
			n++
		}
	}
	return n
}
