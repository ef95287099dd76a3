//go:build envoy

package oracle

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

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
