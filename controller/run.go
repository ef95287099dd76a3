package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/audit/ship"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
	"github.com/breakglass-gateway/breakglass-gateway/controller/config"
	"github.com/breakglass-gateway/breakglass-gateway/internal/engine"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/xds"
)

// ServiceName is the headless Service of the replicas.
const ServiceName = "breakglass-controller"

// Options of Run.
type Options struct {
	Config config.Config
	// REST is how to reach the API server.
	REST *rest.Config
	// DataDir holds everything durable.
	DataDir string
	// Namespace of the release, and the name of this pod; "": not in a pod.
	Namespace, Pod string
	// XDSAddress is where Envoys come to.
	XDSAddress string
	// MetricsAddress serves /metrics, /healthz and /readyz.
	MetricsAddress string
	// AuditRetention, AuditOrigin and CheckpointTo: see engine.Options.
	AuditRetention time.Duration
	AuditOrigin    string
	CheckpointTo   []string
	// AuditService is HOST:PORT of the audit log service; "": there is none.
	AuditService string
	// Sinks get what the audit log service does not deliver. nil: none.
	Sinks *sink.Config
	Log   *slog.Logger
}

// identity of this replica: that of its pod, or one of this process.
func (o Options) identity() string {
	if o.Pod != "" {
		return o.Pod
	}
	host, _ := os.Hostname()
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// controller is the world of the loop in a cluster.
type controller struct {
	opts                                Options
	log                                 *slog.Logger
	engine                              *engine.Engine
	xds                                 *xds.Server
	watch                               *watch
	trust                               *trust
	reviews                             *reviews
	skew                                *skew
	leader                              *leader
	status                              atomic.Pointer[statuses]
	events                              events.EventRecorder // nil: nothing is written yet
	fleets                              *fleets
	authority                           *authority
	keep                                *keep
	peers                               *peers
	ship                                *ship.Client // nil: there is no audit log service
	gatewayNamespaces, secretNamespaces map[string]bool

	connected atomic.Bool // the cluster was read since the start
	last      atomic.Pointer[outcome]
}

// Run controls until ctx ends. Envoys keep what they have then.
func Run(ctx context.Context, o Options) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(60)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	logger := logr.FromSlogHandler(o.Log.Handler())
	klog.SetLogger(logger)
	ctrllog.SetLogger(logger)
	var c *controller
	shipper, err := newShip(o, func(serverName string) (*tls.Config, error) { return c.authority.clientTLS(serverName) })
	if err != nil {
		return err
	}
	e, err := engine.Open(engine.Options{
		ConfigDir: "cluster " + o.REST.Host, DataDir: o.DataDir, MetricsAddress: o.MetricsAddress, MetricsAnywhere: true, ReadyAlone: true,
		ReadOnly:       "this is a controller of a cluster: make or change the Activation with kubectl, or breakglass activate --kubeconfig",
		AuditRetention: o.AuditRetention, AuditOrigin: o.AuditOrigin, CheckpointTo: o.CheckpointTo, Sinks: o.Sinks, Ship: shipper, Log: o.Log,
	})
	if err != nil {
		return err
	}
	c = newController(o, e)
	c.ship = shipper
	finish := c.startShip()
	defer finish()
	defer func() { err = errors.Join(err, e.Close()) }()
	stop, err := c.serveXDS()
	if err != nil {
		return err
	}
	defer stop()
	go c.watch.publish(ctx)
	go c.connect(ctx)
	go c.keep.run(ctx)
	return e.Run(ctx, c, c.watch.updates)
}

func newController(o Options, e *engine.Engine) *controller {
	c := &controller{opts: o, log: o.Log, engine: e, gatewayNamespaces: map[string]bool{}, secretNamespaces: map[string]bool{}}
	for _, ns := range o.Config.GatewayNamespaces {
		c.gatewayNamespaces[ns] = true
	}
	for _, ns := range o.Config.SecretNamespaces {
		c.secretNamespaces[ns] = true
	}
	now := e.Clock().Now
	c.leader = &leader{log: o.Log, changed: func() { e.Poke(); c.status.Load().poke(); c.fleets.poke() }}
	leads := c.leader.is.Load
	c.skew = &skew{now: time.Now, changed: e.Poke}
	c.trust = newTrust(admission.Activations, time.Now, e.Poke)
	c.reviews = newReviews(o.Log, leads, c.last.Load, e.Poke)
	c.authority = newAuthority(o, now, leads)
	c.authority.changed = func() { c.fleets.poke() }
	c.fleets = &fleets{
		log: o.Log, leads: leads, last: c.last.Load, authority: c.authority, config: o.Config, namespace: o.Namespace, pod: o.Pod,
		now: now, changed: e.Poke, wake: make(chan struct{}, 1), audit: o.AuditService,
	}
	c.keep = newKeep(o, c.last.Load)
	c.peers = newPeers(o, c.last.Load, c.envoys, e.Poke)
	c.watch = newWatch(func(key source.ObjectKey, obj client.Object) {
		c.status.Load().seen(key, obj)
		c.fleets.seen(key, obj)
	})
	c.xds = xds.New(xds.Options{Now: now, Log: o.Log, Identify: identify, Reports: true, OnChange: func(string) { e.Poke() }})
	return c
}

// identify says whose Envoy is at the other end: its certificate's Gateway. The pod
// is its own word, and tells only one Envoy of that Gateway from another.
func identify(ctx context.Context, node *corev3.Node) (gateway, envoy string, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", "", errors.New("no connection")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return "", "", errors.New("the connection has no certificate")
	}
	namespace, name, err := pki.Identity(&info.State)
	if err != nil {
		return "", "", err
	}
	gateway = namespace + "/" + name
	pod, ok := strings.CutPrefix(node.GetId(), gateway+"/")
	if !ok || pod == "" {
		return "", "", fmt.Errorf("node %.200q is not one of Gateway %s, which the certificate is for", node.GetId(), gateway)
	}
	return gateway, node.GetId(), nil
}

// serveXDS listens for Envoys. Until there is a certificate no handshake succeeds.
func (c *controller) serveXDS() (stop func(), err error) {
	sock, err := net.Listen("tcp", c.opts.XDSAddress)
	if err != nil {
		return nil, fmt.Errorf("listen for Envoys (--xds-address): %w", err)
	}
	s := grpc.NewServer(append(xds.ServerOptions(),
		grpc.Creds(credentials.NewTLS(pki.ServerConfig(c.authority.state))),
		// A connection must not outlive by far the certificate that it began with.
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: pki.LeafLife / 2, MaxConnectionAgeGrace: time.Second}))...)
	c.xds.Register(s)
	go func() {
		if err := s.Serve(sock); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			c.engine.Fail(fmt.Errorf("the listener for Envoys failed: %w", err))
		}
	}()
	return s.Stop, nil
}

// lastGoodAfter is how long the API server may take before what was last good is
// served.
const lastGoodAfter = 3 * time.Second

// connect reads the cluster, and follows it, until ctx ends. While that is not
// possible, what was last good is served.
func (c *controller) connect(ctx context.Context) {
	restore := time.AfterFunc(lastGoodAfter, func() {
		if c.connected.Load() {
			return
		}
		if err := c.restore(); err != nil {
			c.log.Error("cannot serve what was last good", "error", err)
		}
	})
	defer restore.Stop()
	for wait := 200 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 2*time.Second) {
		if err := c.follow(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("cannot read the cluster; trying again", "error", err)
		} else {
			wait = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// restore serves what was last good.
func (c *controller) restore() error {
	set, err := c.keep.load()
	if err != nil || set == nil {
		return err
	}
	if err := c.authority.restore(); err != nil {
		return err
	}
	c.log.Warn("the API server does not answer: serving what was last good, minus what has ended since; nothing opens")
	c.watch.restore(set)
	return nil
}

// follow reads the cluster, and returns when ctx ends, when that cannot begin, or when
// the API server was away: client-go would come back to it as late as half a minute
// after it has come back, and what was revoked meanwhile would be open so long.
func (c *controller) follow(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	cfg := rest.CopyConfig(c.opts.REST)
	cfg.QPS = -1 // the API server's own fairness is enough
	cfg.UserAgent = "breakglass-controller"
	cfg.Wrap(c.skew.wrap)
	scheme := newScheme()
	http, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(cfg, http)
	if err != nil {
		return err
	}
	kinds, err := present(mapper, scheme)
	if err != nil {
		return err
	}
	objects, err := newCache(cfg, scheme, mapper, c.opts)
	if err != nil {
		return err
	}
	cached, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: mapper, HTTPClient: http, Cache: &client.CacheOptions{Reader: objects}})
	if err != nil {
		return err
	}
	go func() {
		if err := objects.Start(ctx); err != nil {
			c.log.Error("the watches ended", "error", err)
		}
		cancel()
	}()
	if err := errors.Join(c.trust.follow(ctx, objects), c.peers.follow(ctx, objects)); err != nil {
		return err
	}
	if err := c.watch.run(ctx, objects, kinds); err != nil {
		return err
	}
	c.connected.Store(true)
	c.log.Info("the cluster is read")
	if err := c.write(parent, cfg, mapper); err != nil {
		return err
	}
	status := newStatuses(c.log, c.leader.is.Load, c.last.Load, cached, c.events)
	c.status.Store(status)
	go status.run(ctx)
	status.poke()
	reviewed := c.reviews.present(mapper)
	go c.reviews.run(ctx, cfg, mapper)
	c.engine.Poke()
	return c.watchAway(ctx, cfg, func() bool {
		now, err := present(mapper, scheme)
		return err == nil && len(now) > len(kinds) || !reviewed && c.reviews.present(mapper)
	})
}

// write starts, once, what writes to the API server and needs no watch.
func (c *controller) write(ctx context.Context, cfg *rest.Config, mapper meta.RESTMapper) error {
	if c.events != nil {
		return nil
	}
	direct, err := client.New(cfg, client.Options{Scheme: newScheme(), Mapper: mapper})
	if err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: clients.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return err
	}
	go func() { <-ctx.Done(); broadcaster.Shutdown() }()
	c.events = broadcaster.NewRecorder(direct.Scheme(), fieldOwner)
	c.authority.client, c.fleets.client, c.fleets.scheme, c.peers.client = direct, direct, direct.Scheme(), direct
	go c.leader.run(ctx, clients, c.opts.Namespace, c.opts.identity())
	go c.peers.run(ctx)
	go c.authority.run(ctx)
	go c.fleets.run(ctx)
	return nil
}

// askEvery is how often the API server is asked whether it is there. After an absence
// of less than awayFor the watches come back by themselves as soon. Every moreEvery
// times it is asked whether it has optional kinds now that it did not have: a
// BackendTLSPolicy that nobody reads leaves a backend in plain text.
const (
	askEvery  = time.Second
	awayFor   = 3 * time.Second
	moreEvery = 5
)

// watchAway returns when the API server is back after it was away, when it has more
// kinds, or ctx ends. It asks on connections of its own: an old one may take long to
// be known as dead.
func (c *controller) watchAway(ctx context.Context, cfg *rest.Config, more func() bool) error {
	away := time.Time{}
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(askEvery):
		}
		err := ask(ctx, cfg)
		switch {
		case err != nil && away.IsZero() && ctx.Err() == nil:
			away = time.Now()
			c.log.Warn("the API server does not answer: what is open goes on, and ends on time", "error", err)
		case err == nil && !away.IsZero():
			after := time.Since(away)
			if away = (time.Time{}); after < awayFor {
				continue
			}
			c.log.Info("the API server is back: reading the cluster anew", "after", after.Round(time.Second).String())
			return nil
		case err == nil && n%moreEvery == 0 && more():
			c.log.Info("the API server has more kinds: reading the cluster anew")
			return nil
		}
	}
}

func ask(ctx context.Context, cfg *rest.Config) error {
	ctx, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	own := rest.CopyConfig(cfg)
	own.Dial = new(net.Dialer).DialContext // which makes it another transport than the watches have
	http, err := rest.HTTPClientFor(own)
	if err != nil {
		return err
	}
	defer http.CloseIdleConnections()
	d, err := discovery.NewDiscoveryClientForConfigAndClient(own, http)
	if err != nil {
		return err
	}
	return d.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}
