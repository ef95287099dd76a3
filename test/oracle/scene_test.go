//go:build envoy

package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

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
	case n == 0 || len(open) == 0 || k < 3:
		most := 3
		if n == 0 {
			most = 5
		}
		for i := range d.from(1, most) {
			p.activate(p.drawAct(d, fmt.Sprintf("a%x-%d-%d", p.Seed, n, i)))
		}
	case k < 5:
		p.end(d, one(d, open...))
	case k < 7:
		p.editRoute(d)
	default:
		p.editPolicy(d)
	}
}

// activate, and let the oracle see it too.
func (p *play) activate(a *act) {
	GinkgoHelper()
	p.oneWay(a)
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
	} else if is || a.How == "file" {
		Eventually(p.Phase(a.Name), "5s", "3ms").ShouldNot(Equal("unknown"), p.dump)
	}
	a.Seen[1] = time.Now()
}

// oneWay sees to it that all of the activation opens or none, as far as others
// hold its routes: what is about to be free becomes free first.
func (p *play) oneWay(a *act) {
	const near = 150 * time.Millisecond
	for _, t := range a.Targets {
		if h := p.holder(a, t); h != nil && time.Until(h.Deadline) < near && time.Since(h.Deadline) < near {
			testbed.WaitUntil(h.Deadline.Add(near))
		}
	}
	if p.mixed(a, time.Now()) {
		a.Targets = a.Targets[:1]
	}
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
	p.settle(time.Now())
	p.apply()
}

// editPolicy changes who may come in.
func (p *play) editPolicy(d dice) {
	GinkgoHelper()
	i, ro := d.IntN(len(p.Policy.Issuers)), &p.Policy.Roles[d.IntN(len(roleNames))]
	for _, a := range p.Acts {
		if used := p.Policy.role(a.Role); len(a.Open) > 0 && used != nil && a.Role != beaconRole && d.chance(50) {
			ro = used // rather one that is in use
		}
	}
	switch d.IntN(9) {
	case 0, 1, 2:
		p.oldGrants = append(p.oldGrants, ro.Grants...) // whose claims do not count any more
		ro.Grants = []grant{p.drawGrant(d)}
		p.tell("other grants for role %s: %v", ro.Name, ro.Grants)
	case 3:
		p.Policy.Issuers[i].Audiences = some(d, 2, "breakglass", "https://aud.example.test", "bg2")
		p.tell("other audiences for %s: %v", p.Policy.Issuers[i].Name, p.Policy.Issuers[i].Audiences)
	case 4:
		p.Policy.Issuers[i].MaxLifetime = one(d, time.Minute, 15*time.Minute, time.Hour)
		p.tell("another lifetime for %s: %s", p.Policy.Issuers[i].Name, p.Policy.Issuers[i].MaxLifetime)
	case 5:
		name := p.Policy.Issuers[i].Name
		for _, kid := range p.Policy.Issuers[i].Keys {
			p.keys[name+"/old-"+kid] = p.keys[name+"/"+kid] // whoever still has it
			p.keys[name+"/"+kid] = newSigner(kid, p.keys[name+"/"+kid].alg)
		}
		p.tell("new keys for %s", name)
	case 6:
		p.Policy.Scope = scope{Wildcards: d.chance(70), CatchAll: d.chance(70), AnyMethod: d.chance(70), Unlabelled: d.chance(70)}
		p.tell("another scope: %+v", p.Policy.Scope)
	case 7:
		ro.Max = one(d, time.Second, 3*time.Second, time.Minute)
		p.tell("role %s for at most %s", ro.Name, ro.Max)
	default:
		ro.Hostnames = some(d, 2, "*."+p.Domain, "a."+p.Domain, "b."+p.Domain)
		p.tell("role %s for hostnames %v", ro.Name, ro.Hostnames)
	}
	p.settle(time.Now())
	p.apply()
}
