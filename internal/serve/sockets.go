package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/intent"
	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
	"github.com/breakglass-gateway/breakglass-gateway/xds"
)

// runDir is where sockets and Envoys live.
func (f *fleet) runDir() (string, error) {
	dir, err := filepath.Abs(filepath.Join(f.opts.DataDir, "run"))
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}

func (f *fleet) socket(name string) string {
	dir, err := f.runDir()
	if err != nil {
		return filepath.Join(f.opts.DataDir, "run", name) // listen reports it
	}
	return filepath.Join(dir, name)
}

func (f *fleet) xdsSocket() string    { return f.socket("xds.sock") }
func (f *fleet) alsSocket() string    { return f.socket("als.sock") }
func (f *fleet) intentSocket() string { return f.socket("intent.sock") }
func (f *fleet) envoyDir() string     { return f.socket("envoy") }

// listen opens the sockets. The one for xDS accepts, but has nothing to say
// until the first translation: an Envoy that was left running keeps what it has.
func (f *fleet) listen() error {
	if f.opts.EnvoyPath == "" {
		path, err := dataplane.Find("")
		if err != nil {
			return err
		}
		f.opts.EnvoyPath = path
	}
	names, err := dataplane.Names(f.envoyDir())
	if err != nil {
		return err
	}
	for _, name := range names {
		f.attach(name, &envoy{}) // what it has written, whether its Gateway is still there or not
	}
	f.xds = xds.New(xds.Options{Now: f.engine.Clock().Now, Log: f.log, OnChange: func(string) { f.engine.Poke() }})
	f.als = audit.NewReceiver(f.engine.Recorder(), f.log)
	ads := grpc.NewServer(xds.ServerOptions()...)
	f.xds.Register(ads)
	logs := grpc.NewServer(dataplane.TakePings())
	f.als.Register(logs)
	f.intents = intent.New(f.engine.Recorder(), f.log)
	intents := grpc.NewServer(dataplane.TakePings())
	f.intents.Register(intents)
	if err := f.serveGRPC(ads, f.xdsSocket()); err != nil {
		return err
	}
	if err := f.serveGRPC(intents, f.intentSocket()); err != nil {
		return err
	}
	return f.serveGRPC(logs, f.alsSocket())
}

// serveGRPC listens on a unix socket. The journal's lock has made sure that no
// other serve uses this data directory, so that a file in the way is a leftover.
func (f *fleet) serveGRPC(s *grpc.Server, path string) error {
	const most = 107 // sockaddr_un, unix(7)
	if len(path) > most {
		return fmt.Errorf("the socket path %s is %d bytes long, at most %d are possible: use a shorter --data-dir", path, len(path), most)
	}
	sock, err := dataplane.Listen(path)
	if err != nil {
		return err
	}
	f.servers = append(f.servers, s)
	go func() {
		if err := s.Serve(sock); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			f.log.Error("socket closed", "path", path, "error", err)
			f.engine.Fail(err) // without it nothing can be closed early: let Envoy's own deadlines and a restart do it
		}
	}()
	return nil
}

func (f *fleet) close() {
	for _, s := range f.servers {
		s.Stop()
	}
}
