// Package merkle keeps the audit log: an append-only list of entries on disk,
// over which one Merkle tree is signed again and again. With a copy of the
// directory and a verifier key anybody can check that nothing in it was edited,
// removed, added or put in another order; with a checkpoint that was kept
// elsewhere, also that nothing was since then by whoever has the signing key.
//
// # Files
//
// All are in one directory of mode 0700, and of mode 0600.
//
//	segment-%020d.jsonl  entries; the number is the seq of the first one
//	hashes               the hashes of the tree, 32 bytes each
//	checkpoint           the newest signed tree head
//	audit.key            the signing key, a line: the skey of a signed note
//	audit.pub            the verifier keys (vkeys), a line each, the newest last
//	audit.key.new        the next signing key, while it is changed
//	*.tmp                half of a file that replaces another one; means nothing
//
// Only one process writes: it holds a flock on the directory. Any number may
// read, also from a copy. (Copy the checkpoint before the segments; else the copy
// can have a checkpoint of entries that it has not.)
//
// # Entries
//
// An entry is a line of compact JSON (RFC 8259), in UTF-8, that ends with a
// newline, with its keys in this order:
//
//	{"v":1,"seq":7,"time":"2026-11-24T18:30:00.000042Z","kind":"request","data":{...},"cursors":{"a":"b"}}
//
// v is the version of this schema. seq counts from 0 without holes, over all
// segments. time is UTC with six digits. kind is 1 to 32 of a-z. data is any JSON
// value of at most 1 MiB, nested at most 1000 deep. cursors may be left out; its
// names are sorted by their bytes, in names and values only the quote and the
// backslash are escaped, and control characters are not in them. There are at
// most 4096 cursors, of at most 512 bytes a name and a value; the value "" ends
// one. There is no other form of the same entry: what is not in this form, byte
// for byte, is no entry.
//
// Three kinds are of the log itself:
//
//   - segment, the first of each file and nowhere else. data has size and root
//     (base64) of the tree before it, previous, the name of the file before, and
//     key, the vkey that signs; cursors has all cursors. So opening the log reads
//     one file.
//   - key, when the signing key changes: from, to (vkeys) and handover, a
//     checkpoint of the tree before this entry with one extension line, "key " and
//     the new vkey, signed with both keys. Who trusts the old key can trust the new
//     one, and the new key is known to be in the hand of whoever had the old one.
//   - retention, before files are removed because of their age: before, the seq of
//     the first entry that is kept, and segments, the names. It is signed before
//     the files are removed. Where entries are missing without such an entry under
//     the checkpoint, somebody else removed them.
//
// # Tree
//
// The tree is that of RFC 6962, section 2.1 (the same in RFC 9162, section 2.1),
// with SHA-256. The leaf is the line without its newline: the leaf hash is
// SHA-256(0x00 || line), a node SHA-256(0x01 || left || right), the root of
// nothing SHA-256 of nothing. Proofs are the audit paths and consistency proofs
// of the same section (2.1.3 and 2.1.4 in RFC 9162); in JSON the hashes are in
// standard base64, in the order in which they are used.
//
// The file hashes has the hash of each complete subtree, in the order in which
// appending completes them: golang.org/x/mod/sumdb/tlog, StoredHashIndex. n
// entries have 2n - popcount(n) of them. The file is derived from the segments as
// long as all of these are there, and after that the only source of the hashes of
// removed entries: they stay for ever, 64 bytes an entry, so that proofs and
// verification still go back to the first entry.
//
// # Checkpoint
//
// A C2SP tlog-checkpoint (https://c2sp.org/tlog-checkpoint) in a C2SP signed note
// (https://c2sp.org/signed-note), signed with Ed25519 (signature type 1):
//
//	breakglass.dev/log/9f86d081884c7d65
//	4711
//	MCWnmIg1kStsQxDvKKkrJT6KyM4HQrY7tJ5yDJSzkH4=
//
//	— breakglass.dev/log/9f86d081884c7d65 Lb3YPAMb...
//
// The lines are the origin, which is also the name of the key, the size, and the
// root. A checkpoint that covers the change of a key and was signed before the
// change was at its end has two signatures, of the old and of the new key.
// Signatures of others are ignored in checkpoints that come from elsewhere, as
// the specification says, and are damage in the log's own file.
//
// The file is replaced as a whole, by rename. It is signed soon after each append
// and at most ten times a second. Witnesses get it once it is durable: at once
// when they had none for a second, else when that second is over, and only the
// newest. Nothing that a witness does delays an append.
//
// # Durability
//
//   - Append returns nil after its entries were written and synced (fdatasync). A
//     new file's name is synced before. Concurrent calls share one write and one
//     sync.
//   - What one Append takes is recorded whole or not at all, unless the process or
//     the host dies before Append returned: then entries from its beginning may be
//     there. An entry itself is always whole.
//   - hashes is written after the entries and before their sync, and is synced when
//     the next segment begins, when the log is closed, and before files are
//     removed.
//   - The checkpoint never covers what is not synced.
//   - When a write or a sync fails the file is cut back to what was acknowledged
//     before the next write. As long as that fails, too, nothing is taken
//     (ErrBroken).
//
// # After a crash
//
// Open reads the last segment, and those from the checkpoint on. It cuts off a
// line without an end, and from a line on that has zeros (which file systems show
// where a write was not finished when the power failed), when they are after the
// checkpoint; removes a last segment without a whole entry; derives hashes again
// that are missing or wrong; and brings the change of a key to its end when its
// entry is in the log, or takes it back. Then it signs (on a full disk: once there is
// room). Recovered says what was done. All else is refused and left as it is: a line
// that is no entry (CorruptError), and a directory that holds less than, or something
// else than, its own checkpoint vouches for (RollbackError).
//
// # What it cannot show
//
// Entries after the newest checkpoint, normally those of the last tenth of a
// second, can be cut off or edited by whoever can write the files. Whoever has
// the signing key can write another log from the beginning; a checkpoint kept
// elsewhere shows that. A retention by a clock that is far ahead removes what is
// not old.
package merkle
