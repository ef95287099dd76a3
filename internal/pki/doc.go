// Package pki makes and checks the certificates between the controller and the
// proxies of its fleets, and between both of them and the audit log service. It does no I/O and reads no clock: it is given and gives
// the data of Secrets.
//
// # Certificates
//
// One CA, made by the controller and used for nothing else. Below it the
// controller's server certificate, with DNS names, and a client certificate for
// each Gateway's fleet with one URI:
//
//	spiffe://breakglass.dev/gateway/<namespace>/<name>
//
// That URI is who a proxy is. It says nothing else that is believed: see
// Identity. A replica of the controller, as a client of the audit log service, has
//
//	spiffe://breakglass.dev/controller/<namespace of the release>/<pod>
//
// and neither is ever taken for the other: see ControllerIdentity. Leaves live for a day and are renewed after two thirds of it, so what
// was stolen from a pod is of no use the day after, and a controller that is away
// for eight hours breaks nothing. Keys are ECDSA P-256; nothing below TLS 1.3 is
// spoken.
//
// # The CA and its successor
//
// A CA lives for a year. Ten years would do without a successor, until the day
// somebody needs one and nobody has ever tried: so there is one every eight
// months, and it is the same code that makes the first.
//
//  1. After two thirds of its life the CA gets a successor. From then on
//     everybody is given both to trust, and the old one still signs.
//  2. Two days later everybody has had the new one: each leaf is renewed within 16
//     hours, and has the certificates to trust next to it. The successor signs from
//     now on. The old one's key is thrown away; its certificate is trusted until it
//     ends, by when nothing that it has signed is left.
//
// To get rid of a CA at once, delete its Secret: a new one is made, and all leaves
// with it. Proxies keep what they serve, and reconnect once kubelet has brought
// them the new ones.
package pki
