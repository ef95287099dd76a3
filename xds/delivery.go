package xds

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// maxMessage bounds what is kept of Envoy's words about one resource, in bytes.
const maxMessage = 1 << 10

type rejection struct{ version, message string }

// maxTried bounds the versions of one resource whose answer is remembered. To find
// the bad one of n routes takes some 2n answers, all of which must be known at its
// end. Of a resource of which nothing was refused a few do.
const (
	maxTried = 20_000
	maxTaken = 8
)

// answers are what Envoy said of versions of one resource, the oldest first.
type answers struct {
	versions []string
	refused  map[string]string // version -> message, "" if it was taken
	noes     int               // of refused, how many are
}

func (a *answers) set(version, refused string) {
	old, known := a.refused[version]
	if !known {
		a.versions = append(a.versions, version)
	}
	if old != "" {
		a.noes--
	}
	if refused != "" {
		a.noes++
	}
	a.refused[version] = refused
}

func (a *answers) forgetOldest() {
	if a.refused[a.versions[0]] != "" {
		a.noes--
	}
	delete(a.refused, a.versions[0])
	a.versions = a.versions[1:]
}

// tried remembers an answer.
func (v *view) tried(k snapshot.Key, version, refused string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.answers[k]
	if a == nil {
		a = &answers{refused: map[string]string{}}
		v.answers[k] = a
	}
	a.set(version, refused)
	if len(a.versions) > maxTried || a.noes == 0 && len(a.versions) > maxTaken {
		a.forgetOldest()
	}
	if delete(v.refusing, k); a.noes > 0 {
		v.refusing[k] = struct{}{}
	}
	v.changed = true
}

// view is what one stream has learned of its Envoy. The stream writes it, any
// goroutine reads it. Each stream has its own, so that one that was superseded
// cannot speak for its successor.
type view struct {
	mu       sync.RWMutex
	acked    map[snapshot.Key]string
	rejected map[snapshot.Key]rejection
	answers  map[snapshot.Key]*answers // of RouteConfigurations
	refusing keySet                    // of answers, those with a refusal among them
	gone     keySet                    // of acked, those whose removal was sent
	changed  bool                      // since the last takeChanged
}

func newView() *view {
	return &view{acked: map[snapshot.Key]string{}, rejected: map[snapshot.Key]rejection{}, answers: map[snapshot.Key]*answers{}, refusing: keySet{}, gone: keySet{}}
}

// setAcked records the acknowledged version of k, "" for none.
func (v *view) setAcked(k snapshot.Key, version string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.gone, k)
	if v.acked[k] == version {
		return
	}
	v.changed = true
	if version == "" {
		delete(v.acked, k)
		return
	}
	v.acked[k] = version
}

// setGone records that the removal of k was sent.
func (v *view) setGone(k snapshot.Key) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.acked[k]; ok {
		v.gone[k] = struct{}{}
	}
}

// setRejected records why a version of k is not in Envoy; an empty version
// clears it.
func (v *view) setRejected(k snapshot.Key, version, message string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := rejection{version, message}
	if v.rejected[k] == r {
		return
	}
	if version == "" {
		if _, ok := v.rejected[k]; !ok {
			return
		}
		delete(v.rejected, k)
	} else {
		v.rejected[k] = r
	}
	v.changed = true
}

func (v *view) takeChanged() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.changed
	v.changed = false
	return c
}

// delivery finds the views of the node's streams at each call, so that it stays
// right across reconnects.
type delivery struct {
	s  *Server
	id string
}

// views of the Envoys that serve.
func (d delivery) views() ([]*view, *snapshot.Snapshot) {
	d.s.mu.RLock()
	defer d.s.mu.RUnlock()
	n := d.s.nodes[d.id]
	if n == nil {
		return nil, nil
	}
	out := make([]*view, 0, len(n.streams))
	for _, c := range n.streams {
		if !d.s.held(n, c) && (!d.s.reports || c.report.Ready) {
			out = append(out, c.view)
		}
	}
	return out, n.want
}

// Connected implements snapshot.Delivery.
func (d delivery) Connected() bool {
	vs, _ := d.views()
	return len(vs) > 0
}

// Acked implements snapshot.Delivery: what all of them have. While no Envoy is
// connected nobody knows
// what it holds, and Acked returns "". So it does for a resource that is wanted
// again while its removal is under way, from the Set on that wants it.
func (d delivery) Acked(k snapshot.Key) string {
	vs, want := d.views()
	version := ""
	for i, v := range vs {
		is := v.ackedOf(k, want)
		if i > 0 && is != version {
			return ""
		}
		version = is
	}
	return version
}

func (v *view) ackedOf(k snapshot.Key, want *snapshot.Snapshot) string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if _, gone := v.gone[k]; gone && want.Get(k) != nil {
		return ""
	}
	return v.acked[k]
}

// Rejected implements snapshot.Delivery, of any of them. A resource is also rejected
// while a need of it is: the message names the need.
func (d delivery) Rejected(k snapshot.Key) (version, message string) {
	vs, _ := d.views()
	for _, v := range vs {
		v.mu.RLock()
		r := v.rejected[k]
		v.mu.RUnlock()
		if r.version != "" {
			return r.version, r.message
		}
	}
	return "", ""
}

// Tried implements snapshot.Delivery, for RouteConfigurations: taken by all, or
// refused by any.
func (d delivery) Tried(k snapshot.Key, version string) (answered bool, refused string) {
	vs, _ := d.views()
	answered = len(vs) > 0
	for _, v := range vs {
		known, no := v.triedOf(k, version)
		if no != "" {
			return true, no
		}
		answered = answered && known
	}
	return answered, ""
}

func (v *view) triedOf(k snapshot.Key, version string) (answered bool, refused string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	a := v.answers[k]
	if a == nil {
		return false, ""
	}
	refused, answered = a.refused[version]
	return answered, refused
}

// Refused implements snapshot.Delivery.
func (d delivery) Refused() []snapshot.Key {
	vs, _ := d.views()
	all := keySet{}
	for _, v := range vs {
		v.mu.RLock()
		maps.Copy(all, v.refusing)
		v.mu.RUnlock()
	}
	return slices.Collect(maps.Keys(all))
}

// bound makes foreign words fit for statuses, logs and terminals: at most
// maxMessage bytes, on one line, printable.
func bound(s string) string {
	if len(s) > 4*maxMessage {
		s = s[:4*maxMessage] // do not map what is cut off anyway
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	const more = "..."
	if len(s) <= maxMessage {
		return s
	}
	cut := maxMessage - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}
