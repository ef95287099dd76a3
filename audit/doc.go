// Package audit holds what the audit log is made of: the journal of control facts
// that the process replays when it starts, the entries of requests and
// connections, and the gRPC receiver of Envoy's access log. Below it, spool reads
// what Envoy wrote, merkle keeps the log, and recorder moves everything into it.
//
// # The journal
//
// One directory (0700), locked with flock by the one process that writes, with one
// file (0600), control.jsonl. It is JSON lines. A line is one object with its keys
// in this order and no white space outside of strings; data is compact JSON:
//
//	{"seq":7,"time":"2026-11-23T21:55:00.000042Z","kind":"activation","data":{...},"more":1,"sum":"..."}
//
// seq counts by one. time is UTC with microseconds. more is present in a batch of
// several entries only: how many lines of the batch follow. The sum covers the
// exact bytes of the line before `,"sum"`: SHA-256(sum of the line before (32
// bytes, zeros at first) || bytes), 64 hex digits. A byte changed anywhere breaks
// the chain there.
//
// The first line has seq 0, kind "journal" and data {"v":1,"id":"<random>"}; it is
// not handed to Replay. The file is made under another name, synced and renamed,
// so it is never found empty.
//
// # What is durable, and when
//
//   - Append returns nil: all its entries were written and fdatasynced, in one
//     batch with nothing between them. They are there after a power loss.
//   - Append returns an error: none of its entries was recorded, the file was
//     cut back and that cut was synced. When cutting back failed too, the error
//     is an ErrBroken, as for every later Append: what the disk holds is unknown until
//     Open reads it again. (Close tries the cut once more.)
//   - The process dies within Append: after Open the whole batch is there or
//     nothing of it.
//
// Open verifies everything. A last line without its end is what a crash leaves: it
// was never acknowledged, is cut, and that is said (log and Recovered). Everything
// else that does not verify is a *CorruptError and the journal does not open: a
// forgotten revocation opens a door, so unsure means refuse. That entries are
// missing at the end cannot be seen from the file alone; the log, which has them
// too, shows it.
//
// # What Envoy must be told (the translator owns this)
//
// An access log of type envoy.access_loggers.http_grpc on each HTTP connection
// manager, with buffer_size_bytes 0 (measured: a buffer loses what it holds),
// no additional headers to log (never Authorization), and
// common_config.custom_tags. A tag that is empty or "-" counts as absent:
//
//	bg.gateway      namespace/name of the Gateway; else the node id is used
//	bg.route        namespace/name of the HTTPRoute, or "GRPCRoute namespace/name"; else Envoy's route_name
//	bg.rule         name or index of the rule
//	bg.role         emergency role of the open route
//	bg.activations  namespace/name of each activation, comma separated or a JSON list
//	bg.incident     incident of the activation
//	bg.opening      id of the opening (the lease's name)
//	bg.connection   %CONNECTION_ID%, part of the key without a stream id
//	bg.epoch        the life of the Envoy process, as in its spool
//
// All tags must come from route metadata or constants, never from a request
// header. jwt_authn needs payload_in_metadata "jwt"; failed_status_in_metadata
// "jwt_fail" is used when present. use_remote_address must be true and
// preserve_external_request_id false, or a client chooses its own stream id.
//
// Entries of access_log_type DownstreamEnd (or not set) become type "end". All
// others are counted and ignored: the spool has them.
package audit
