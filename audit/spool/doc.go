// Package spool reads the file in which Envoy records what it has served, and
// clears it away.
//
// # Files
//
// In one directory (0700), owned by whoever runs Envoy and this (files 0600):
//
//	access.jsonl     Envoy appends here
//	access.jsonl.N   was set aside; a larger N is younger
//
// A file of the directory that is a link, or somebody else's, is an error until
// it is moved away.
//
// # Lines
//
// A line is one JSON object without an object in it, written by Envoy's file
// access logger from the format in translator/lock. A field without a value is
// left out; fields that are not known are ignored. A line has at most 256 KiB.
// Bounds are in bytes before escaping; there a longer value is cut.
//
//	field    what                                          Envoy's operator
//	typ      DownstreamEnd, DownstreamPeriodic (a stream    ACCESS_LOG_TYPE
//	         after a second), or connection
//	ep       epoch: one life of the process; 1 to 64        ENVIRONMENT(ENVOY_EPOCH)
//	conn     number of the connection within the epoch      CONNECTION_ID
//	t        begin; RFC 3339, UTC, microseconds             START_TIME
//	d        duration in milliseconds                       DURATION
//	rx, tx   bytes of the bodies; on a connection, of all   BYTES_RECEIVED, BYTES_SENT
//	fl       response flags, separated by commas            RESPONSE_FLAGS
//	peer     address:port of the connection                 DOWNSTREAM_DIRECT_REMOTE_ADDRESS
//
// of requests only:
//
//	sid      stream id; none if rejected before it had one  STREAM_ID
//	us       first byte of the request to last byte of the  COMMON_DURATION
//	         response, in microseconds; none without one
//	m        method; 32                                     REQ(:METHOD)
//	h        host; 512                                      REQ(:AUTHORITY)
//	p        path as the client sent it; 2048               REQ(X-ENVOY-ORIGINAL-PATH?:PATH)
//	code     status; 0: the client left before one          RESPONSE_CODE
//	det      what answered, or failed                       RESPONSE_CODE_DETAILS
//	att      how often it was sent to a backend             UPSTREAM_REQUEST_ATTEMPT_COUNT
//	up, upc  address and cluster of the backend             UPSTREAM_HOST, UPSTREAM_CLUSTER
//	cl       address:port of the client, after trusted hops DOWNSTREAM_REMOTE_ADDRESS
//	iss, sub, jti   verified claims; 2048 each              DYNAMIC_METADATA
//	rt       name of Envoy's route                          ROUTE_NAME
//	route, rule, role, opening, act, inc   from our own     METADATA(ROUTE)
//	         route; act and inc are separated by commas
//
// of connections only:
//
//	sni      server name that the client asked for          REQUESTED_SERVER_NAME
//	tls      failure of the handshake                       DOWNSTREAM_TRANSPORT_FAILURE_REASON
//	det      why it was ended                               CONNECTION_TERMINATION_DETAILS
//	close    why we closed it                               DOWNSTREAM_LOCAL_CLOSE_REASON
//
// Each connection has a line, also those with requests. Number 0 on a connection
// means that it had none yet when it ended.
//
// What is kept of a line is what is kept of a row of the gRPC access log: both
// become an audit.RequestRow, whose Entry cleans, bounds and redacts. A request
// has the same key both ways: the stream id, or connection and begin. Requests
// that were rejected before they had an id may, within one HTTP/2 connection and
// one microsecond, share a key; each has a line nevertheless.
//
// Of the reasons to cut a stream, a row tells the token's end (flag UMSDR: there
// is no other use of that timer). That a lease went away looks like a backend
// that closed the connection (UC, UPE), in each of the fields Envoy offers.
//
// # Positions
//
// A position is FILE:OFFSET, where FILE is made of inode and time of birth, which
// renaming does not change and no later file has, and, for a file that somebody
// has cut short, "~" and how often. Where the file system keeps no time of birth
// it has a hash of the first 64 bytes instead. From the position of a record on,
// Open gives what followed it, and nothing twice. A position whose file is gone
// is told as a problem, and all that is there is read.
//
// # Rotation
//
//  1. access.jsonl has reached Options.RotateAt: it is renamed, and an empty one
//     made. Envoy still writes to the old one.
//  2. Envoy is asked to open its logs anew, and again, at longer and longer
//     intervals, until there is something in the new file. So it does not matter
//     who died in between, or whether the file could not be opened.
//  3. The old file is read until there is something in a later one: Envoy has one
//     writer for its log, which closes a file before it writes to the next; and an
//     Envoy is started only after the one before it is gone. So what is in the old
//     file then is all of it.
//  4. Once a record of a later file is Committed, the old one is deleted. If it has
//     grown nevertheless, it is kept as access.jsonl.N.late, and that is logged.
//
// An Envoy that is started anew appends to access.jsonl. If its predecessor was
// killed within a write, the torn line and the first whole one are one line of
// the file: it is taken apart, the whole rows are kept and the rest is a problem.
// Bytes that are no row, of whatever kind, are a problem each, and never in the
// way of the rows around them.
//
// # What can be lost
//
//   - Envoy is killed: the rows that it had not flushed, about a millisecond's
//     worth. The gRPC access log has nearly all of them.
//   - Power is lost: what the kernel had not written to the disk. Envoy does not
//     fsync; a run of zeros in its place is a problem.
//   - The disk is full: rows, silently but for Envoy's counter
//     filesystem.write_failed. The gRPC access log has them.
//   - Somebody cuts or removes a file: what was not read. Cutting is noticed, unless
//     the file grows beyond where it was read before the next look.
package spool
