// Package agent is what runs next to an Envoy in a pod.
//
// It forwards Envoy's configuration stream to the controller over mutual TLS, so
// that Envoy has neither a certificate nor a way to say who it is; it keeps the
// audit log of what Envoy serves, on a volume of the pod; and it tells the
// controller, in the same stream, whether entries can be kept.
//
// # The stream
//
// Envoy's stream to the agent and the agent's to the controller begin and end
// together: when the controller goes away Envoy's stream ends, Envoy keeps what it
// has and comes again within half a second, with the versions that it holds.
// Messages are passed on as bytes, but for two things. What Envoy says of its node
// is replaced by node.id "NAMESPACE/NAME/POD"; the controller believes the first
// two only if the certificate says the same. And requests of the type of reports
// are the agent's alone.
//
// A report is a DeltaDiscoveryRequest of type_url "breakglass.dev/agent.v1.Report"
// with, besides node.id, in node.metadata:
//
//	failing  string  why entries cannot be kept; "": they can
//	time     string  the clock of the agent's node, RFC 3339 with nanoseconds
//	ready    bool    Envoy has its configuration and serves it
//	epoch    string  of the Envoy that runs; "": none does
//
// It is the first request of each stream, and comes again at each change and every
// five seconds. It is not answered.
//
// # The audit log service
//
// With one, what is in the log of the pod is brought there as well (audit/ship), and
// not removed here before it is confirmed there. At the end, after Envoy's, the rest
// is brought, for 15 s at most.
//
// # When something dies
//
// The agent: Envoy goes on; what it logs meanwhile is in the spool, and the next
// agent goes on where the log ends. Envoy: the log says so, and what is missing.
// The volume is full: failing, and by policy nothing is served until it is not.
package agent
