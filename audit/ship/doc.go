// Package ship brings the entries of a log to another one, the log of a cluster,
// each exactly once.
//
// # Wire
//
// HTTP/1.1 with mutual TLS; who brings a log is what its certificate says. A log is
// named by the origin in its checkpoints and the hash of its first verifier key (the
// eight hex digits in the vkey), which stay for as long as the log lives.
//
//	GET /v1/log?log=ORIGIN&key=HASH&session=ID&since=TIME
//
// answers up to where the service has the log, and makes session the one that may
// bring it: what comes late from a connection of before is refused. since is when
// entries were first brought to this service, left out if none were.
//
//	{"service":"ORIGIN HASH","next":4711,"known":true,"last":"4710@TIME"}
//
// known is false if the service has nothing of it; last is the newest entry that it
// has, by which whoever brings the log sees whether they are its own. Then
//
//	POST /v1/log
//
// takes lines: the first is a JSON object (type head), the others are entries as
// merkle.Entry.Line writes them, without cursors, from seq head.from on, without
// holes. It is answered when they are durable: 200 and {"next":N}. 409 means: ask
// again up to where; 400 and 403: never so; 503: not now. Nothing is counted as taken
// but what the service's log has, so an answer that is lost costs a question.
//
// # In the log of the service
//
// Each entry keeps kind and data. Its time is when the service recorded it, and its
// cursors have
//
//	"log/ORIGIN HASH": "SEQ@TIME"
//
// of its own log, which Origin reads. What is durable and what counts as taken are the
// same bytes. Entries of kind segment, key and retention are about the other log's
// files; they are left out. How a log is doing is in a cursor too, moved by entries of
// kind source:
//
//	"source/ORIGIN HASH": "begun|ended|lost@TIME IDENTITY"
//
// # Sources come and go
//
// One that says that it is at its end is ended. One that is not heard of for Lost and
// had not ended is lost: a source entry, and a gap with the entries that it had said
// it has and that never came. Both can come again, and go on where the service has
// them.
//
// A merkle log has at most 4096 cursors. When a source begins and there is no room,
// the cursors of those that ended or were lost longest ago are dropped. If such a one
// comes after all, it says since when it has brought entries (a file next to its log,
// see Options.Mark), and the service looks into its own log for the last of them.
package ship
