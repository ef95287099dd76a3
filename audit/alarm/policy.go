package alarm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// policyEntry is what is read of the data of an entry of a policy.
type policyEntry struct {
	Name, Digest, File string
	OwnerUID           uint32
	Keys               map[string]string
	Spec               json.RawMessage
}

// policySpec is what is read of its spec.
type policySpec struct {
	Suspended bool
	Issuers   []struct {
		Issuer  string
		Offline bool
	}
}

// knownPolicy is what is remembered of a policy: in a cursor, so it is short.
type knownPolicy struct {
	spec, keys string   // digests
	suspended  bool     //
	offline    []string // digests of issuers
}

func (k knownPolicy) String() string {
	state := "-"
	if k.suspended {
		state = "suspended"
	}
	return strings.Join([]string{k.spec, k.keys, state, strings.Join(k.offline, ",")}, " ")
}

// parseKnown reads what String has written.
func parseKnown(s string) (k knownPolicy, ok bool) {
	f := strings.Split(s, " ")
	if len(f) != 4 {
		return k, false
	}
	k = knownPolicy{spec: f[0], keys: f[1], suspended: f[2] == "suspended"}
	if f[3] != "" {
		k.offline = strings.Split(f[3], ",")
	}
	return k, true
}

// short is the digest of something that is looked up by it.
func short(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:6])
}

// maxPolicies are remembered. Of the others each change is an addition.
const maxPolicies = 40

// maxOfflineIssuers of a policy are remembered; a policy has no more issuers.
const maxOfflineIssuers = 8

// policyChanged: who may come in has changed.
func (r *Rules) policyChanged(e *merkle.Entry) []audit.Alarm {
	var p policyEntry
	if json.Unmarshal(e.Data, &p) != nil || p.Name == "" {
		return nil
	}
	p.Name = audit.Text(p.Name, maxLabel)
	before, known := parseKnown(r.remembered(policyCursor(p.Name)))
	var spec policySpec
	there := len(p.Spec) > 0 && !bytes.Equal(p.Spec, []byte("null"))
	if there && json.Unmarshal(p.Spec, &spec) != nil {
		return nil
	}
	now := knownPolicy{suspended: spec.Suspended}
	if there {
		now.spec, now.keys = short(string(p.Spec)), keysDigest(p.Keys)
		for _, i := range spec.Issuers {
			if i.Offline && len(now.offline) < maxOfflineIssuers {
				now.offline = append(now.offline, short(i.Issuer))
			}
		}
		if known || r.count("policy/") < maxPolicies {
			r.remember(policyCursor(p.Name), now.String())
		}
	} else {
		r.remember(policyCursor(p.Name), "")
	}
	r.noteIssuers()
	severity, what := policyWords(known, there, before, now)
	if p.File != "" {
		what += fmt.Sprintf(" (file %s of uid %d)", audit.Text(p.File, maxLabel), p.OwnerUID)
	}
	return []audit.Alarm{{
		ID: "policy/" + p.Name + "/" + before.id() + "/" + now.id() + "/" + about(e.Time), Name: audit.AlarmPolicy, Severity: severity, Time: e.Time,
		Summary: "EmergencyPolicy " + p.Name + " " + what, Labels: map[string]string{"policy": p.Name},
	}}
}

func policyCursor(name string) string { return "policy/" + name }

// id tells one state of a policy from another.
func (k knownPolicy) id() string { return short(k.String()) }

func policyWords(known, there bool, before, now knownPolicy) (severity, what string) {
	switch {
	case !there:
		return Critical, "was removed: what it had open is closed"
	case now.suspended && !before.suspended:
		return Critical, "is suspended: the panic button was pressed; nothing is open and nothing opens"
	case !known:
		return Warning, "was added: it says who may come in"
	case before.suspended && !now.suspended:
		return Critical, "is no longer suspended: the door can be opened again"
	case before.spec == now.spec && before.keys != now.keys:
		return Warning, "has other keys of its issuers: a rotation, or somebody else's keys"
	case before.spec == now.spec:
		return Warning, "governs other GatewayClasses, or is in another file"
	}
	return Critical, "was changed: it says who may come in"
}

func keysDigest(keys map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		all = append(all, name, keys[name])
	}
	return short(all...)
}

// noteIssuers keeps which issuers policies mark as ones whose key the team itself
// holds.
func (r *Rules) noteIssuers() {
	r.issuers = map[string]bool{}
	for name, at := range r.state {
		if !strings.HasPrefix(name, cursorPrefix+"policy/") {
			continue
		}
		if k, ok := parseKnown(at); ok {
			for _, d := range k.offline {
				r.issuers[d] = true
			}
		}
	}
}

// doorKinds are the objects that make the door. Endpoints come and go with the
// pods behind it.
var doorKinds = map[string]string{
	"GatewayClass": Critical, "Gateway": Warning, "ListenerSet": Warning, "HTTPRoute": Warning, "GRPCRoute": Warning,
	"ReferenceGrant": Warning, "BackendTLSPolicy": Warning, "Secret": Warning, "ConfigMap": Warning,
}

// configChanged: the door itself was changed.
func (r *Rules) configChanged(e *merkle.Entry) []audit.Alarm {
	var c struct {
		Loaded  bool
		Changes []struct{ Change, Object, Digest string }
		More    int
	}
	if json.Unmarshal(e.Data, &c) != nil || c.Loaded {
		return nil
	}
	severity, parts := "", []string{}
	id := sha256.New()
	for _, ch := range c.Changes {
		kind, _, _ := strings.Cut(ch.Object, " ")
		s, door := doorKinds[kind]
		if !door {
			continue
		}
		if severity == "" || s == Critical {
			severity = s
		}
		parts = append(parts, ch.Object+" "+ch.Change)
		fmt.Fprintf(id, "%s %s %s\n", ch.Object, ch.Change, ch.Digest)
	}
	if severity == "" {
		return nil
	}
	const named = 8
	more := c.More
	if len(parts) > named {
		parts, more = parts[:named], more+len(parts)-named
	}
	text := strings.Join(parts, ", ")
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return []audit.Alarm{{
		ID: "config/" + hex.EncodeToString(id.Sum(nil)[:8]) + "/" + about(e.Time), Name: audit.AlarmConfig, Severity: severity, Time: e.Time,
		Summary: "The emergency door was changed: " + text,
	}}
}
