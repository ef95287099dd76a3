// Package controller runs the gateway in a Kubernetes cluster. It is the world of
// the engine's loop there:
//
//	objects.go   watches: what the API server has, as far as it concerns us
//	pick.go      which of it that is, and without what changes all the time
//	references.go  what an object names
//	world.go     what the loop asks for and hands over
//	trust.go     whether the admission policies and the clock can be relied upon
//	leader.go    which replica decides
//	status.go    what the loop found, written to the API server by the leader
//	fleets.go    the Envoys of each Gateway, made by the leader
//	authority.go the certificates of the replicas and of the fleets
//	keep.go      what was last good, on disk, for a start without an API server
//
// Every replica builds the same configuration, serves it to the Envoys that come
// to it, and ends windows at their deadlines. Only the leader opens any.
package controller
