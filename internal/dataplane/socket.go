package dataplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// TakePings lets Envoy ping as often as its bootstrap has it: every five seconds. By
// default gRPC takes one in five minutes and sends away who asks more often.
func TakePings() grpc.ServerOption {
	return grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true})
}

// Listen listens on a unix socket that Envoy is to connect to. The caller has the
// directory for itself, so that a file in the way is a leftover.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a leftover socket: %w", err)
	}
	sock, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	return sock, nil
}
