// Package control is the control socket: how the CLI asks a running serve to
// open, close and tell.
//
// # The socket
//
// DIR/control.sock, a unix stream socket, 0600 in a data directory that is
// 0700. DIR/control.lock is held with flock for as long as the server lives, so
// that two servers never fight over one path. A socket file that is left behind
// is replaced only if nobody answers on it.
//
// Who calls is what the kernel says (SO_PEERCRED), never what the caller says.
// Only root and the uid that serve runs as may call; anyone else gets a 403,
// even with the socket in hand. In turn the client talks only to a server that
// root or its own uid runs.
//
// # The protocol
//
// HTTP/1.1 and JSON. There is nothing else on it: no debug, no pprof, no
// metrics.
//
//	GET  /v1/status                          Status
//	GET  /v1/activations/{namespace}/{name}  v1alpha1.Activation
//	     ?seen=ETAG&wait=25s                 the same, once it differs from what has that ETag,
//	                                         or after the wait (at most 25s), whichever is first
//	POST /v1/activations                     ActivateRequest to v1alpha1.Activation, 201
//	POST /v1/revoke                          RevokeRequest to a list of v1alpha1.Activation
//	GET  /v1/timeline?since=RFC3339          JSON lines, each {"entry":...}; the last is {"end":true},
//	                                         or {"error":...}: without either the answer was cut off
//
// An error is {"error":{"code":...,"message":...,"details":[...]}} with the
// HTTP code that Code names. Requests are at most 1 MiB, and a field that is
// not known is an error: it would otherwise be a wish that nobody heard.
package control
