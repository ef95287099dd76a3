//go:build envoy

package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// runner is one gateway on which worlds follow each other.
type runner struct {
	*testbed.World
	ports   [3]int
	clients map[[2]int]*testbed.Client
	control *control.Client
	tally   tally
	// of this run: nothing but activations survives from one world to the next.
	files   map[string]bool
	beacons int
}

// tally of the answers.
type tally struct {
	Worlds, Probes, In, Refused int
	// Undecided by why.
	Undecided map[string]int
	Statuses  map[int]int
	// Settled changes, and the time spent on waiting for nothing but that.
	Settled  int
	Settling time.Duration
}

func (t tally) String() string {
	return fmt.Sprintf("oracle: %d worlds, %d probes: %d let in, %d refused, as they must be; undecided %v; by status %v; %s for %d changes to take effect",
		t.Worlds, t.Probes, t.In, t.Refused, t.Undecided, t.Statuses, t.Settling.Round(time.Millisecond), t.Settled)
}

func (t tally) undecided() (n int) {
	for _, v := range t.Undecided {
		n += v
	}
	return n
}

func newRunner() *runner {
	GinkgoHelper()
	r := &runner{World: testbed.New(), files: map[string]bool{}, clients: map[[2]int]*testbed.Client{}}
	r.tally.Statuses, r.tally.Undecided = map[int]int{}, map[string]int{}
	r.ports = [3]int{r.HTTP, testbed.FreePort(), r.HTTPS}
	r.clients[[2]int{portA, 1}], r.clients[[2]int{portA, 2}] = r.H1(), r.H2C()
	r.clients[[2]int{portB, 1}], r.clients[[2]int{portB, 2}] = r.H1On(r.ports[portB]), r.H2COn(r.ports[portB])
	r.clients[[2]int{portTLS, 1}], r.clients[[2]int{portTLS, 2}] = r.TLS1(), r.TLS2()
	backends := map[string]int{}
	for _, name := range services {
		backends[name] = testbed.StartBackend(name).Port()
	}
	r.Remove("policy.yaml")
	r.Remove("gateway.yaml")
	r.Write("base.yaml", append(backendsYAML(backends), r.Certificate())...)
	// What is there already at a first start is not opened, and it lasts until there
	// is a Gateway.
	r.Write("world.yaml", draw(1).manifests(r.ports)...)
	r.Start()
	c, err := control.Dial(control.SocketPath(r.Data))
	Expect(err).NotTo(HaveOccurred())
	r.control = c
	return r
}

// play is a world on the runner.
type play struct {
	*runner
	*world
	story []string // what was done to it, for a report
}

func (p *play) tell(format string, args ...any) {
	p.story = append(p.story, fmt.Sprintf(format, args...))
}

// run a world: its scenes, and the probes after each.
func (r *runner) run(seed uint64) {
	GinkgoHelper()
	p := &play{runner: r, world: draw(seed)}
	r.tally.Worlds++
	r.clear()
	p.tell("the world is written")
	p.apply()
	p.probes(1, 16)
	for scene := range 5 {
		d := throw(seed, 100+scene)
		p.scene(d, scene)
		p.barrier()
		p.check()
		p.probes(200+scene, 26)
	}
	p.chase(throw(seed, 300))
	if throw(seed, 400).chance(30) {
		p.tell("suspended")
		p.Policy.Suspended = true
		p.settle(time.Now())
		p.apply()
		p.check()
		p.probes(401, 10)
	}
}

// clear takes away what the world before left. What it asked for over the socket
// waits, if it did not open: a route of the next world may have that name.
func (r *runner) clear() {
	GinkgoHelper()
	for name := range r.files {
		r.Remove(name)
	}
	clear(r.files)
	_, err := r.control.Revoke(context.Background(), control.RevokeRequest{All: true})
	Expect(err).NotTo(HaveOccurred())
}

// apply writes the objects and waits until they are in effect.
func (p *play) apply() {
	GinkgoHelper()
	p.Write("world.yaml", p.manifests(p.ports)...)
	p.barrier()
}

// barrier waits until whatever was asked for before is in effect: a beacon that
// is lit after it is seen by Envoy after it. And then a moment, for what closes:
// nothing acknowledges that.
func (p *play) barrier() {
	GinkgoHelper()
	began := time.Now()
	p.beacons++
	name := fmt.Sprintf("beacon-%d", p.beacons)
	p.Write("beacon.yaml", breakglass("Activation", object{"name": name, "namespace": gatewayNamespace},
		object{"targetRefs": []object{{"name": "beacon"}}, "role": beaconRole, "reason": "a beacon", "incident": "INC-0", "duration": "20m"}))
	want := "Live"
	if p.Policy.Suspended {
		want = "Refused PolicySuspended"
	}
	Eventually(p.Phase(name), "10s", "3ms").Should(Equal(want), func() string { return fmt.Sprint(p.Problems(), p.dump()) })
	if want == "Live" && p.Policy.Limit > time.Minute {
		t := p.genuine(throw(p.Seed, 1), p.Policy.role(beaconRole).Grants[0], time.Now().Unix())
		text := p.sign(t)
		Eventually(func() bool {
			for _, v := range []int{1, 2} {
				if p.clients[[2]int{portA, v}].Get(p.beaconHost(), "/beacon", text).Status != 200 {
					return false
				}
			}
			return true
		}, "5s", "3ms").Should(BeTrue(), p.dump)
	}
	<-time.After(50 * time.Millisecond)
	p.tally.Settled++
	p.tally.Settling += time.Since(began)
}

// dump is all that is needed to understand a failure.
func (p *play) dump() string {
	return fmt.Sprintf("SEED=%d (make soak SEED=%d); manifests in %s\n%s\nthe world: %s\n", p.Seed, p.Seed, p.Config, strings.Join(p.story, "\n"), must(json.Marshal(p.world)))
}
