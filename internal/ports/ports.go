// Package ports says on which port of a pod the Envoy of a Gateway listens for a
// port of the Gateway: one that needs no capability.
package ports

const (
	// Agent is where the agent of a pod serves metrics and health.
	Agent = 9103
	// Controller is where the controller serves xDS.
	Controller = 18000

	privileged = 1024
	moved      = 10000
)

// ContainerPort is the port in the pod: a port below 1024 is 10000 higher there.
func ContainerPort(port int32) int32 {
	if port < privileged {
		return port + moved
	}
	return port
}

// Usable reports whether a listener of a Gateway may have the port. Not those
// whose place in the pod is taken: the agent's, and those of ports below 1024. It
// depends on no other listener, so that adding one never takes another's port.
func Usable(port int32) bool {
	return port > 0 && port <= 65535 && port != Agent && (port <= moved || port >= moved+privileged)
}
