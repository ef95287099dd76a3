// Package dataplane runs Envoy processes, one per Gateway, and sees to it that
// each outlives the control plane but not its own last deadline.
//
// Every Envoy has a directory with mode 0700:
//
//	bootstrap.json  what Envoy was started with
//	admin.sock      Envoy's admin interface, mode 0600
//	envoy.log       its log, and what it printed before it died
//	envoy.lock      locked exactly as long as an Envoy lives in this directory
//	envoy.json      which process that is, and what it was started from
//	spool/          Envoy's access log, mode 0700; see SpoolDir
//	serve.lock      locked as long as a control plane is attached
//	deadline        until when an Envoy may live without a control plane
//	ended           the epoch of an Envoy that the deadman has ended in order
//	deadman.lock    locked as long as a deadman watches
//
// The locks are open-file-description locks (fcntl(2), F_OFD_SETLK): they
// belong to the open file, pass to a child with the descriptor, go away with
// the last copy of it, and can be tested without being taken. Envoy inherits
// the descriptor of envoy.lock and knows nothing of it, so the kernel says
// whether an Envoy lives, whoever started it and whatever died meanwhile.
//
// A process is signalled only when it is proven to be ours: it holds
// envoy.lock open, and its command line names our bootstrap. Signals go through
// a pidfd taken before the proof, so a reused process id is never hit.
//
// Why it is so: docs/decisions/0004-envoy-outlives-the-control-plane.md.
package dataplane
