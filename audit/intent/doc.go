// Package intent makes requests wait for the disk. Under a policy with audit.mode
// Strict Envoy asks, before it forwards a request that has passed every lock, that
// an entry of type intent be kept of it, and forwards it when the answer is yes.
//
// It is Envoy's external authorization by gRPC (envoy.service.auth.v3.Authorization)
// on a unix socket, and says nothing but yes, or that it is not available:
//
//	yes   the entry is in the audit log, written and synced
//	no    it is not, or nobody knows: Envoy answers 503 and forwards nothing
//
// translator/lock has Envoy's half: what is asked, for how long it waits (0.25 s), and
// that whatever fails refuses. An intent that became durable after Envoy had given
// up is in the log like any other; the end of that request says that it was refused.
package intent
