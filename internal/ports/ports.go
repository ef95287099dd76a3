// Package ports says on which port a container listens for a port of a Gateway.
package ports

const (
	// Privileged is the first port that everybody may bind.
	Privileged = 1024
	// Offset is added to those below it.
	Offset = 10000
)

// Container is the port that the Envoy in a pod binds for a port of a Gateway: it
// runs without the right to bind those below 1024. The Service maps one to the other.
func Container(port int32) int32 {
	if port < Privileged {
		return port + Offset
	}
	return port
}
