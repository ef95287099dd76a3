package agent

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit/ship"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/internal/tlsdir"
)

// shipMost is how long the end of an agent waits for the audit log service: what it
// has not by then is lost with the pod, and the service says so. It is well within
// the grace that a pod has besides the draining of its Envoy.
const shipMost = 15 * time.Second

// shippedSegment is the size of a segment where the log is a buffer: what is confirmed
// goes by whole segments.
const shippedSegment = 16 << 20

// short says that less than an eighth of the disk is free: then what the audit log
// service has is not kept here as well.
func (a *agent) short() bool {
	var st unix.Statfs_t
	return unix.Statfs(a.opts.AuditDir, &st) == nil && st.Bavail < st.Blocks/8
}

// newShip makes what brings the log of this pod to the audit log service; nil when
// there is none.
func (a *agent) newShip() *ship.Client {
	o := a.opts
	if o.AuditService == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(o.AuditService)
	if o.AuditServerName != "" || err != nil { // that it is HOST:PORT was checked
		host = o.AuditServerName
	}
	return ship.New(ship.Options{
		Service: o.AuditService, Mark: filepath.Join(o.AuditDir, "shipped"), Log: o.Log,
		TLS: func() (*tls.Config, error) {
			data, err := tlsdir.Read(o.TLSDir)
			if err != nil {
				return nil, err
			}
			return pki.ClientConfig(data, host)
		},
	})
}

// startShip begins to bring what is in the log. finish ends it, after the log was
// closed: the rest is brought, and the service told that it is the rest.
func (a *agent) startShip() (finish func()) {
	if a.ship == nil {
		return func() {}
	}
	end := a.ship.Start()
	return func() {
		if err := end(shipMost); err != nil {
			a.log.Error("the audit log service was not brought all entries", "left", a.ship.Stats().Unsent, "error", err)
		}
	}
}
