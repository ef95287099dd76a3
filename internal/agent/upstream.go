package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver/dns"

	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/internal/tlsdir"
)

const (
	// resolveEvery is how soon a name may be looked up again: the addresses of a
	// controller that was replaced are new.
	resolveEvery = 250 * time.Millisecond
	// A controller that does not answer is given up after aliveEvery and aliveWait.
	// gRPC does not ask more often than every 10 s; the reports that are not
	// acknowledged by the kernel at the other end are noticed sooner.
	aliveEvery, aliveWait = 10 * time.Second, 5 * time.Second
)

// connect prepares the connection to the controller. One replica of it will do:
// any is taken, and kept until it goes away.
func (a *agent) connect() (err error) {
	dns.SetMinResolutionInterval(resolveEvery)
	a.upstream, err = grpc.NewClient("dns:///"+a.opts.Controller,
		grpc.WithTransportCredentials(files{a.opts.TLSDir, a.opts.ServerName}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`),
		grpc.WithDisableServiceConfig(), // none from DNS
		grpc.WithAuthority(a.opts.ServerName),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 300 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: aliveEvery, Timeout: aliveWait}),
	)
	if err != nil {
		return fmt.Errorf("connection to the controller %s: %w", a.opts.Controller, err)
	}
	return nil
}

// files are credentials that are read anew for each connection: kubelet replaces
// them when the controller has renewed them.
type files struct{ dir, serverName string }

func (f files) ClientHandshake(ctx context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	data, err := tlsdir.Read(f.dir)
	if err != nil {
		return nil, nil, err
	}
	config, err := pki.ClientConfig(data, f.serverName)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.dir, err)
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, f.serverName, conn)
}

func (files) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a client's")
}

func (files) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (f files) Clone() credentials.TransportCredentials { return f }

func (files) OverrideServerName(string) error {
	return errors.New("the name is an option of the agent")
}
