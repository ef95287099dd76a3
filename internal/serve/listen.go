package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
	"github.com/breakglass-gateway/breakglass-gateway/xds"
)

func (l *loop) socket(name string) string {
	dir, err := l.runDir()
	if err != nil {
		return filepath.Join(l.opts.DataDir, "run", name) // listen reports it
	}
	return filepath.Join(dir, name)
}

func (l *loop) xdsSocket() string { return l.socket("xds.sock") }
func (l *loop) alsSocket() string { return l.socket("als.sock") }
func (l *loop) envoyDir() string  { return l.socket("envoy") }

// listen opens the sockets. The one for xDS accepts, but has nothing to say
// until the first translation: an Envoy that was left running keeps what it has.
func (l *loop) listen() error {
	l.commands = make(chan func())
	l.written = make(chan *write, 1)
	l.viewed = make(chan struct{})
	l.envoys = map[types.NamespacedName]*envoy{}
	l.candidates = map[types.NamespacedName]*candidate{}
	if l.opts.EnvoyPath == "" {
		path, err := dataplane.Find("")
		if err != nil {
			return err
		}
		l.opts.EnvoyPath = path
	}
	l.xds = xds.New(l.xdsOptions())
	l.als = audit.NewReceiver(l.recorder, l.log)
	ads := grpc.NewServer(xds.ServerOptions()...)
	l.xds.Register(ads)
	logs := grpc.NewServer()
	l.als.Register(logs)
	if err := l.serveGRPC(ads, l.xdsSocket()); err != nil {
		return err
	}
	if err := l.serveGRPC(logs, l.alsSocket()); err != nil {
		return err
	}
	if err := l.serveControl(); err != nil {
		return err
	}
	return l.serveMetrics()
}

// serveGRPC listens on a unix socket. The journal's lock has made sure that no
// other serve uses this data directory, so that a file in the way is a leftover.
func (l *loop) serveGRPC(s *grpc.Server, path string) error {
	const most = 107 // sockaddr_un, unix(7)
	if len(path) > most {
		return fmt.Errorf("the socket path %s is %d bytes long, at most %d are possible: use a shorter --data-dir", path, len(path), most)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a leftover socket: %w", err)
	}
	sock, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, sock.Close())
	}
	l.grpcServers = append(l.grpcServers, s)
	go func() {
		if err := s.Serve(sock); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			l.log.Error("socket closed", "path", path, "error", err)
			l.cancel() // without it nothing can be closed early: let Envoy's own deadlines and a restart do it
		}
	}()
	return nil
}

func (l *loop) shutServers() {
	for _, s := range l.grpcServers {
		s.Stop()
	}
	for _, s := range l.httpServers {
		if err := s.Close(); err != nil {
			l.log.Error("close the metrics server", "error", err)
		}
	}
	if l.controlClose != nil {
		if err := l.controlClose(); err != nil {
			l.log.Error("close the control socket", "error", err)
		}
	}
}

// shutdown stops in order: nothing is served any more, then it is recorded.
func (l *loop) shutdown() error {
	l.stopEnvoys()
	if l.writing {
		l.wrote(<-l.written)
	}
	batch := append(l.unwritten, entry(audit.KindStop, struct{}{}))
	if err := l.journal.Append(context.Background(), batch...); err != nil {
		return fmt.Errorf("record the stop: %w", err)
	}
	return nil
}
