// Package recorder moves what happened into the log, each thing exactly once:
// control entries from the journal, requests and connections from the spool of
// each Envoy, and requests that only the gRPC access log told of.
//
// One goroutine does it. Each entry carries the cursor of its source, so that
// what is durable and what is counted as taken are the same bytes: after a crash
// the log itself says where to go on. See docs/decisions/0006-audit-log.md.
//
// Cursors:
//
//	journal              ID:SEQ of the journal and its last entry
//	spool/GATEWAY        position in the Gateway's spool
//	count/GATEWAY EPOCH  how many requests of that epoch are in the log
//	gap/GATEWAY EPOCH    how many of that epoch were said to be missing
package recorder
