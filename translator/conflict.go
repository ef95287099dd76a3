package translator

import (
	"fmt"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// conflicts marks the listeners of a Gateway, in the order of their ranks, that cannot
// live on one port together. Of two of one object none is preferred and none is served,
// as Gateway API has it. Of two objects the one of the lower rank has the port. Who has
// lost it takes it from nobody, and neither does a protocol that we do not serve.
func conflicts(ls []*listener) {
	beaten := map[*listener]bool{} // by one of a lower rank
	for i, a := range ls {
		for _, b := range ls[i+1:] {
			reason := a.indistinct(b)
			switch {
			case reason == "" || !a.carriesHTTP() || beaten[a]:
			case a.rank != b.rank:
				if !a.conflicted.ok() {
					beaten[b] = true
					b.conflict(a, reason)
				}
			case b.carriesHTTP() && !beaten[b]:
				a.conflict(b, reason)
				b.conflict(a, reason)
			}
		}
	}
}

// indistinct says why a connection could belong to either of two listeners, "" if it
// cannot.
func (l *listener) indistinct(o *listener) gwv1.ListenerConditionReason {
	switch {
	case l.spec.Port != o.spec.Port:
		return ""
	case l.spec.Protocol != o.spec.Protocol:
		return gwv1.ListenerReasonProtocolConflict
	case l.hostname == o.hostname:
		return gwv1.ListenerReasonHostnameConflict
	}
	return ""
}

// conflict refuses l because of o.
func (l *listener) conflict(o *listener, reason gwv1.ListenerConditionReason) {
	what := fmt.Sprintf("protocol %s", o.spec.Protocol)
	if reason == gwv1.ListenerReasonHostnameConflict {
		what = fmt.Sprintf("the same hostname %q", o.hostname)
	}
	message := fmt.Sprintf("listener %s has %s on the same port %d: give one of them another", o.spec.Name, what, o.spec.Port)
	l.conflicted = yes(conflicted, string(reason))
	l.conflicted.message = message
	l.accepted = no(accepted, string(reason), message)
}

// overlapping tells that a client who knows the certificate of l may take its connection
// to be good for hosts of another listener of the port, none if that cannot be. It is
// answered 421 then: nothing is wrong, and somebody may wonder.
func (l *listener) overlapping() []condition {
	var others []string
	for _, o := range l.gateway.listeners {
		if o != l && l.tls() && !l.conflicted.ok() && l.besides(o) &&
			(l.hostname == "" || o.hostname == "" || Covers(l.hostname, o.hostname) || Covers(o.hostname, l.hostname)) {
			others = append(others, string(o.spec.Name))
		}
	}
	if others == nil {
		return nil
	}
	c := yes(string(gwv1.ListenerConditionOverlappingTLSConfig), string(gwv1.ListenerReasonOverlappingHostnames))
	c.message = fmt.Sprintf("its hostname overlaps with that of %s: a request on the connection of another listener is answered 421", strings.Join(others, ", "))
	return []condition{c}
}
