// Package testbed is what the tests of a running gateway stand on: the real
// breakglass binary as a child process, the real Envoy that it starts, backends
// that remember what reached them, an issuer that can sign anything, and clients
// that know to the millisecond when they were refused and when the last byte
// came.
//
// It fails the running ginkgo spec itself. Nothing of a World outlives the spec
// that made it: processes are ended by their process id, found by the data
// directory on their command line.
//
// Times of bytes are the kernel's (SO_TIMESTAMPNS), so that a test that is
// scheduled late on a busy machine does not blame the gateway for it.
package testbed
