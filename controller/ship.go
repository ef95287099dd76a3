package controller

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/ship"
)

// shipMost is how long the end of a replica waits for the audit log service. What it
// has not by then it gets when this replica is back.
const shipMost = 5 * time.Second

// newShip makes what brings the log of this replica to the audit log service; nil when
// there is none. tlsConfig is asked for each connection, and not before it runs.
func newShip(o Options, tlsConfig func(serverName string) (*tls.Config, error)) (*ship.Client, error) {
	if o.AuditService == "" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(o.AuditService)
	if err != nil {
		return nil, fmt.Errorf("--audit-service %q: not HOST:PORT", o.AuditService)
	}
	return ship.New(ship.Options{
		Service: o.AuditService, Mark: filepath.Join(o.DataDir, "shipped"), Log: o.Log,
		TLS: func() (*tls.Config, error) { return tlsConfig(host) },
	}), nil
}

// startShip begins to bring what is in the log. finish ends it, after the log was
// closed.
func (c *controller) startShip() (finish func()) {
	if c.ship == nil {
		return func() {}
	}
	end := c.ship.Start()
	return func() {
		if err := end(shipMost); err != nil {
			c.log.Warn("the audit log service was not brought all entries; they are brought at the next start", "left", c.ship.Stats().Unsent, "error", err)
		}
	}
}
