//go:build envoy

package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
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
	if throw(seed, 400).chance(15) {
		p.tell("suspended")
		p.Policy.Suspended = true
		p.settle()
		p.apply()
		p.check()
		p.probes(401, 10)
	}
}

// clear takes away what the world before left.
func (r *runner) clear() {
	for name := range r.files {
		r.Remove(name)
	}
	clear(r.files)
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

// scene changes something.
func (p *play) scene(d dice, n int) {
	GinkgoHelper()
	var open []*act
	for _, a := range p.Acts {
		if len(a.Open) > 0 {
			open = append(open, a)
		}
	}
	switch k := d.IntN(12); {
	case n == 0 || len(open) == 0 || k < 4:
		most := 3
		if n == 0 {
			most = 5
		}
		for i := range d.from(1, most) {
			p.activate(p.drawAct(d, fmt.Sprintf("a%x-%d-%d", p.Seed, n, i)))
		}
	case k < 7:
		p.end(d, one(d, open...))
	case k < 9:
		p.editRoute(d)
	default:
		p.editPolicy(d)
	}
}

// activate, and let the oracle see it too.
func (p *play) activate(a *act) {
	GinkgoHelper()
	key := types.NamespacedName{Namespace: a.Namespace, Name: a.Name}
	p.tell("activate %s by %s: role %s targets %v duration %s notAfter %s drill %t", key, a.How, a.Role, a.Targets, a.Duration, a.NotAfter.Format(time.TimeOnly), a.Drill)
	a.Seen[0] = time.Now()
	is := p.see(a, a.Seen[0])
	switch a.How {
	case "file":
		p.files[a.Name+".yaml"] = true
		p.Write(a.Name+".yaml", a.yaml())
	case "cli":
		args := []string{"activate", a.Namespace + "/" + a.Targets[0].Route, "--name", a.Name, "--role", a.Role, "--reason", "a test", "--duration", text(a.Duration), "--no-wait"}
		if a.Targets[0].Rule != "" {
			args[1] += ":" + a.Targets[0].Rule
		}
		if a.Drill {
			args = append(args, "--drill")
		} else {
			args = append(args, "--incident", "INC-1")
		}
		out, err := p.Run(args...)
		p.tell("the command line said: %s %v", strings.TrimSpace(out), err)
		if is {
			Expect(err).NotTo(HaveOccurred(), p.dump)
		}
	default:
		var o v1alpha1.Activation
		Expect(json.Unmarshal([]byte(a.yaml()), &o)).To(Succeed())
		_, err := p.control.Activate(context.Background(), control.ActivateRequest{Activation: o})
		if err != nil {
			p.tell("the control socket said: %v", err)
		}
		if is {
			Expect(err).NotTo(HaveOccurred(), p.dump)
		}
	}
	p.Acts = append(p.Acts, a)
	if is && !slices.ContainsFunc(a.Open, func(t target) bool { return p.hidden(a.Namespace, t) }) {
		p.awaitLive(a)
	} else if is || len(a.Ask) > 0 || a.How == "file" {
		Eventually(p.Phase(a.Name), "5s", "3ms").ShouldNot(Equal("unknown"), p.dump)
	}
	if len(a.Ask) > 0 {
		p.barrier()
		p.resolve(a, p.Activation(a.Name))
	}
	a.Seen[1] = time.Now()
}

// awaitLive waits until the gateway calls the activation live, and knows what it
// said before.
func (p *play) awaitLive(a *act) {
	GinkgoHelper()
	var said []string
	Eventually(func() v1alpha1.Phase {
		o := p.Activation(a.Name)
		if o == nil {
			return ""
		}
		text := fmt.Sprintf("%s %+v", o.Status.Phase, o.Status.Conditions)
		if len(said) == 0 || said[len(said)-1] != text {
			said = append(said, text)
		}
		return o.Status.Phase
	}, "5s", "3ms").Should(Equal(v1alpha1.PhaseLive), func() string { return strings.Join(said, "\n") + "\n" + p.dump() })
}

// end one that is open, before its time.
func (p *play) end(d dice, a *act) {
	GinkgoHelper()
	how := one(d, "control", "control", "file")
	if a.How != "file" || a.Removed || a.Revoked {
		how = "control"
	}
	p.tell("end %s/%s by %s", a.Namespace, a.Name, how)
	switch {
	case how == "control":
		_, err := p.control.Revoke(context.Background(), control.RevokeRequest{Names: []types.NamespacedName{{Namespace: a.Namespace, Name: a.Name}}})
		Expect(err).NotTo(HaveOccurred(), p.dump)
	case d.chance(50):
		a.Revoked = true
		p.Write(a.Name+".yaml", a.yaml())
	default:
		a.Removed = true
		delete(p.files, a.Name+".yaml")
		p.Remove(a.Name + ".yaml")
	}
	a.end()
}

// editRoute changes a route, which closes it; or its label, or takes it away.
func (p *play) editRoute(d dice) {
	GinkgoHelper()
	r := one(d, p.likely(d)...)
	switch d.IntN(4) {
	case 0:
		r.Deleted = true
		p.tell("delete route %s/%s", r.Namespace, r.Name)
	case 1:
		r.Label = one(d, roleNames...)
		p.tell("label route %s/%s for %s", r.Namespace, r.Name, r.Label)
	default:
		i := d.IntN(len(r.Rules))
		r.Rules[i].Matches = append(slices.Clip(r.Rules[i].Matches), p.drawMatch(d))
		if rw := r.Rules[i].Rewrite; rw != nil && rw.Prefix {
			r.Rules[i].Rewrite = nil
		}
		p.tell("a match more for route %s/%s", r.Namespace, r.Name)
		for _, a := range p.Acts {
			if a.Namespace == r.Namespace {
				a.close(func(t target) bool { return t.Route == r.Name })
			}
		}
	}
	p.settle()
	p.apply()
}

// editPolicy changes who may come in.
func (p *play) editPolicy(d dice) {
	GinkgoHelper()
	i, ro := d.IntN(len(p.Policy.Issuers)), &p.Policy.Roles[d.IntN(len(roleNames))]
	switch d.IntN(7) {
	case 0:
		ro.Grants = []grant{p.drawGrant(d)}
		p.tell("other grants for role %s: %v", ro.Name, ro.Grants)
	case 1:
		p.Policy.Issuers[i].Audiences = some(d, 2, "breakglass", "https://aud.example.test", "bg2")
		p.tell("other audiences for %s: %v", p.Policy.Issuers[i].Name, p.Policy.Issuers[i].Audiences)
	case 2:
		p.Policy.Issuers[i].MaxLifetime = one(d, time.Minute, 15*time.Minute, time.Hour)
		p.tell("another lifetime for %s: %s", p.Policy.Issuers[i].Name, p.Policy.Issuers[i].MaxLifetime)
	case 3:
		name := p.Policy.Issuers[i].Name
		for _, kid := range p.Policy.Issuers[i].Keys {
			p.keys[name+"/old-"+kid] = p.keys[name+"/"+kid] // whoever still has it
			p.keys[name+"/"+kid] = newSigner(kid, p.keys[name+"/"+kid].alg)
		}
		p.tell("new keys for %s", name)
	case 4:
		p.Policy.Scope = scope{Wildcards: d.chance(70), CatchAll: d.chance(70), AnyMethod: d.chance(70), Unlabelled: d.chance(70)}
		p.tell("another scope: %+v", p.Policy.Scope)
	case 5:
		ro.Max = one(d, time.Second, 3*time.Second, time.Minute)
		p.tell("role %s for at most %s", ro.Name, ro.Max)
	default:
		ro.Hostnames = some(d, 2, "*."+p.Domain, "a."+p.Domain, "b."+p.Domain)
		p.tell("role %s for hostnames %v", ro.Name, ro.Hostnames)
	}
	p.settle()
	p.apply()
}

// resolve takes the gateway's word where nobody promises anything: an activation
// of which a part cannot open. That part stays closed in any case.
func (p *play) resolve(a *act, told *v1alpha1.Activation) {
	if len(a.Ask) == 0 {
		return
	}
	for _, t := range told.Status.Targets {
		of := target{Route: t.Name}
		if t.SectionName != nil {
			of.Rule = string(*t.SectionName)
		}
		if slices.Contains(a.Ask, of) && (t.Phase == v1alpha1.PhaseLive || t.Phase == v1alpha1.PhasePending && t.Reason == "Opening") {
			a.Open = append(a.Open, of)
		}
	}
	if a.Ask = nil; told.Status.Phase.Final() {
		a.end()
	}
}

// check compares the gateway's own word on the activations with the oracle's.
func (p *play) check() {
	GinkgoHelper()
	began := time.Now()
	st := p.Status()
	for _, a := range p.Acts {
		i := slices.IndexFunc(st.Activations, func(o v1alpha1.Activation) bool { return o.Name == a.Name && o.Namespace == a.Namespace })
		if i < 0 {
			Expect(a.Open).To(BeEmpty(), func() string { return a.Name + " is not known\n" + p.dump() })
			continue
		}
		p.resolve(a, &st.Activations[i])
		told := st.Activations[i].Status
		earliest, latest := p.between(a)
		if told.Deadline != nil {
			const slack = 2 * time.Millisecond // it is told in microseconds
			if len(a.Open) > 0 {
				Expect(told.Deadline.Time).To(And(BeTemporally(">=", earliest.Add(-slack)), BeTemporally("<=", latest.Add(slack))),
					func() string { return "the deadline of " + a.Name + "\n" + p.dump() })
			}
			if !a.Deadline.IsZero() {
				Expect(told.Deadline.Time).To(BeTemporally("<=", a.Deadline), func() string { return "the deadline of " + a.Name + " moved later\n" + p.dump() })
			}
			a.Deadline = told.Deadline.Time
		}
		for _, ts := range told.Targets {
			t, isLive := target{Route: ts.Name}, ts.Phase == v1alpha1.PhaseLive
			if ts.SectionName != nil {
				t.Rule = string(*ts.SectionName)
			}
			isOpen := slices.Contains(a.Open, t)
			switch {
			case isLive && !isOpen:
				Fail(fmt.Sprintf("%v of %s is Live and must not be\n%s", t, a.Name, p.dump()))
			case !isLive && isOpen && p.accepted(p.route(a.Namespace, t.Route)) && !p.hidden(a.Namespace, t) && before(time.Now(), began, a.Deadline) == good:
				Fail(fmt.Sprintf("%v of %s must be Live: %+v\n%s", t, a.Name, told, p.dump()))
			}
		}
	}
}

// probes asks a number of things, most of them of routes that are open.
func (p *play) probes(part, n int) {
	GinkgoHelper()
	for i := range n {
		d := throw(p.Seed, 1000*part+i)
		p.probe(d, p.likely(d))
	}
}

// likely are the routes that are worth asking.
func (p *play) likely(d dice) []*route {
	var all, worth []*route
	for _, r := range p.Routes {
		if r.Name == "beacon" {
			continue
		}
		all = append(all, r)
		if slices.ContainsFunc(p.Acts, func(a *act) bool { return a.Namespace == r.Namespace && holds(a.Open, r.Name) }) {
			worth = append(worth, r)
		}
	}
	if len(worth) == 0 || d.chance(20) {
		return all
	}
	return worth
}

// probe asks once and compares.
func (p *play) probe(d dice, routes []*route) {
	GinkgoHelper()
	var q request
	roleName, wish := one(d, roleNames...), d.chance(75)
	for range 12 {
		q = p.drawRequest(d, routes)
		now := time.Now()
		if pl := p.find(q); pl != nil {
			if s, name := p.state(pl, now, now); s > just {
				if !d.chance(10) {
					roleName = name
				}
				break
			}
		}
		if !wish {
			break
		}
	}
	q.Token = p.drawToken(d, roleName)
	p.ask(q)
}

func (p *play) ask(q request) {
	GinkgoHelper()
	reply := p.send(q)
	want := p.answer(q, reply.Start, reply.End)
	p.tally.Probes++
	p.tally.Statuses[reply.Status]++
	complaint := compare(q, want, reply)
	if complaint == "" {
		switch {
		case want.In == maybe:
			p.tally.Undecided[want.Undecided]++
		case want.In == good:
			p.tally.In++
		default:
			p.tally.Refused++
		}
		return
	}
	again := p.send(q)
	Fail(fmt.Sprintf("%s\nthe request: %s\nfrom %s to %s; asked again: %d\n%s", complaint, q, reply.Start.Format(clockTime), reply.End.Format(clockTime), again.Status, p.dump()))
}

const clockTime = "15:04:05.000000"

func (p *play) send(q request) testbed.Reply {
	auth, query := q.Token.present()
	h := http.Header(auth)
	if h == nil {
		h = http.Header{}
	}
	for name, v := range q.Header {
		h.Set(name, v)
	}
	path := q.Path
	if query = strings.Trim(q.Query+"&"+query, "&"); query != "" {
		path += "?" + query
	}
	return p.clients[[2]int{q.Port, q.Version}].Do(testbed.Request{Method: q.Method, Host: q.Host, Path: path, Header: h})
}

// compare says what is wrong with an answer; "" if nothing is.
func compare(q request, want expected, reply testbed.Reply) string {
	if reply.Status == 200 {
		var seen echo.Request
		switch err := json.Unmarshal([]byte(reply.Body), &seen); {
		case want.In == bad:
			return fmt.Sprintf("LET IN, and must not be: %s. The backend answered: %s", want.Why, reply.Body)
		case err != nil:
			return fmt.Sprintf("no backend of ours answered: %s", reply.Body)
		case seen.Backend != want.Backend || !slices.Contains(want.Paths, seen.Path) || seen.Method != q.Method:
			return fmt.Sprintf("backend %s got %s %s, and it must be %s and %v: %s", seen.Backend, seen.Method, seen.Path, want.Backend, want.Paths, want.Why)
		case seen.Headers.Get("Authorization") != "":
			return "the backend sees the token"
		}
		return ""
	}
	switch {
	case want.In == good:
		return fmt.Sprintf("refused with %d (%v %s), and must be let in: %s", reply.Status, reply.Err, reply.Body, want.Why)
	case !slices.Contains(want.Refusals, reply.Status):
		return fmt.Sprintf("refused with %d (%v %s), and it must be one of %v: %s", reply.Status, reply.Err, reply.Body, want.Refusals, want.Why)
	}
	return ""
}

// chase asks around the deadline that comes next, if one is near.
func (p *play) chase(d dice) {
	GinkgoHelper()
	var next *act
	for _, a := range p.Acts {
		left := time.Until(a.Deadline)
		if len(a.Open) > 0 && left > 50*time.Millisecond && left < 2500*time.Millisecond && (next == nil || a.Deadline.Before(next.Deadline)) {
			next = a
		}
	}
	if next == nil {
		return
	}
	p.tell("chase the deadline of %s, %s", next.Name, next.Deadline.Format(clockTime))
	r := p.route(next.Namespace, next.Open[0].Route)
	testbed.WaitUntil(next.Deadline.Add(-100 * time.Millisecond))
	for range 24 {
		p.probe(d, []*route{r})
		<-time.After(5 * time.Millisecond)
	}
}

// dump is all that is needed to understand a failure.
func (p *play) dump() string {
	return fmt.Sprintf("SEED=%d (make soak SEED=%d); manifests in %s\n%s\nthe world: %s\n", p.Seed, p.Seed, p.Config, strings.Join(p.story, "\n"), must(json.Marshal(p.world)))
}
