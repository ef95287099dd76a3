// Package sink brings the entries of an audit log to where people look: a collector
// (OTLP), a webhook (CloudEvents), a file of JSON lines, an Alertmanager.
//
// Each sink follows the log by itself, from a cursor of its own that is durable, and
// reads only what a checkpoint covers. One that is slow or down holds up nobody:
// nothing waits for a sink, and no more than one piece of the log is in memory for
// each. What it has not taken it gets later, in order.
//
// Delivery is at least once. An entry has an id that never changes, ORIGIN/SEQ, by
// which the receiver drops what it has. The cursor is written after the receiver
// has said that it has the entries, at most once a second; a crash costs a second of
// entries that come again.
//
// Checkpoints go along: after the first entries that a new checkpoint covers. Who
// has them, and a verifier key from elsewhere, can convict a log that was rewritten.
package sink
