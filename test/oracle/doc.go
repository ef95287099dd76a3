// Package oracle asks a running gateway thousands of random questions and
// compares each answer with what the documentation promises.
//
// A world is drawn from a seed: a policy, listeners, overlapping routes. The real
// serve binary runs it on a real Envoy; activations come and go by manifest,
// control socket and command line; requests with every kind of token are sent
// before, within, around and after the windows. For each request the oracle, which
// is written from README, docs and the Gateway API and imports nothing of what it
// judges, says who must be let in, to which backend and under which path, and who
// must not. Only within a few milliseconds of an instant, or where the
// documentation is silent, is it undecided; those are counted and bounded.
//
// SEED=N runs the one world of that seed again. PROBES=N is how many requests are
// sent at least; `make soak` sends 10,000.
//
// All of it is in test files with the build tag envoy.
package oracle
