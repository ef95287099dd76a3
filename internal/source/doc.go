// Package source reads a directory of manifests: files in, objects and
// problems out.
//
// # What is read
//
// Every file below the directory whose name ends in .yaml, .yml or .json, as
// one or more documents, each an object or a List of objects. Names that begin
// with a dot are skipped, unless a symbolic link leads to them: that is how a
// mounted ConfigMap is laid out (file -> ..data/file, ..data -> ..2026_01_01).
// One file or directory that is reached by two ways is read once.
//
// # What an object goes through
//
// Kinds that have a CRD go through what an API server with that CRD does on
// create: strict decoding, pruning turned into an error, defaulting, the OpenAPI
// schema, the uniqueness of list maps and sets, and the CEL rules. Kinds of
// Kubernetes itself are decoded strictly into their Go types, with the checks
// and defaults that matter here. Fields that the server owns (status, uid,
// creationTimestamp, ...) are dropped: a file cannot claim them.
//
// A document is validated once, when its text changes. An Activation that
// changes is also validated against its last good version, by the transition
// rules of its CRD.
//
// # What happens when something is wrong
//
//   - A file that cannot be read or parsed keeps the objects it last had.
//   - An object that is invalid keeps its last good version; the other objects
//     of its file go on.
//   - The one thing that gets through from a wrong object is what closes:
//     revoked: true of an Activation, suspended: true of an EmergencyPolicy.
//   - An object that is found in two places is not used at all.
//   - An object that is gone is believed gone on a second look, since editors
//     and git unlink a file before they write it anew.
//
// Each is a Problem that names file, line, object, field and remedy. No Problem
// holds a value of a Secret or of a key set.
package source
