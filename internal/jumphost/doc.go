// Package jumphost picks of a cluster what a serve on a jump host needs to be the
// way in while the API server is down.
//
// What it makes opens nothing that the cluster would not open:
//
//   - A Gateway that the cluster does not accept is left out.
//   - A route that the cluster refuses, because its namespace has not opted in for
//     example, keeps its place in the order of matches, so that no other route
//     serves what is its own. It gets a role that nobody can have.
//   - A Service with an endpoint that the cluster does not take has none.
//   - Activations stay where they are: they are of the cluster's doors, their names
//     are spent there, and whoever opens a door here says so here.
//
// Private keys of listeners are left out unless they are asked for. Of a Secret or
// ConfigMap that an issuer names only the key set is taken, and only if it is one of
// public keys.
package jumphost
