package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/intent"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/audit/ship"
	"github.com/breakglass-gateway/breakglass-gateway/internal/clock"
	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
)

// Options of Run.
type Options struct {
	// Gateway is namespace/name, Pod the name of this pod.
	Gateway, Pod string
	// RunDir is shared with the Envoy, see dataplane.Container.
	RunDir dataplane.RunDir
	// AuditDir holds the spool and the audit log, on a volume that this pod alone
	// writes in this place.
	AuditDir string
	// TLSDir has the data of the fleet's Secret as files; see internal/pki. They are
	// read anew for each connection.
	TLSDir string
	// Controller is host:port; all addresses of the host are tried.
	Controller string
	// ServerName is in the controller's certificate.
	ServerName string
	// AuditService is HOST:PORT of the audit log service, which gets what is in the log
	// of this pod; "": there is none. AuditServerName is in its certificate; "": HOST.
	AuditService    string
	AuditServerName string
	// MetricsAddress serves /metrics, /healthz and /readyz; "" for none.
	MetricsAddress string
	// AuditRetention is how long entries are kept; zero for the default.
	AuditRetention time.Duration
	Log            *slog.Logger
}

// agent is one run.
type agent struct {
	opts     Options
	log      *slog.Logger
	node     string // node.id towards the controller
	admin    dataplane.Admin
	clock    *clock.Clock
	recorder *recorder.Recorder
	receiver *audit.Receiver
	intents  *intent.Server
	ship     *ship.Client // nil: there is no audit log service
	upstream *grpc.ClientConn
	servers  []*grpc.Server
	metrics  *http.Server
	pokes    chan struct{} // the recorder's Problem has changed
	cancel   context.CancelCauseFunc

	// endsMu guards told and buried.
	endsMu sync.Mutex
	told   map[string]time.Time // ends of Envoys that the recorder was told, by epoch
	buried map[string]bool      // epochs of which the log says that they ended

	mu        sync.Mutex
	report    report
	changed   chan struct{} // closed when report changes
	why       string        // Envoy is not ready, "" when it is
	answered  time.Time     // a response was passed on, last
	live      time.Time     // when Envoy was first live in this epoch
	settled   string        // the epoch that was ready once
	streams   int           // to the controller, now
	trouble   string        // with the connection to the controller
	forwarded uint64        // responses passed on
}

// Run runs until ctx ends, or something fails for good. Then what Envoy has logged
// is in the log: end it after Envoy.
func Run(ctx context.Context, o Options) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &agent{
		opts: o, log: o.Log, node: o.Gateway + "/" + o.Pod, admin: o.RunDir.Admin(), cancel: cancel,
		pokes: make(chan struct{}, 1), told: map[string]time.Time{}, buried: map[string]bool{},
		changed: make(chan struct{}), answered: time.Now(), why: "it was not asked yet",
	}
	a.report.failing = "the audit log is being opened"
	if err := o.RunDir.Prepare(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.AuditDir, 0o700); err != nil {
		return fmt.Errorf("audit directory: %w", err)
	}
	if a.clock, err = clock.Open(filepath.Join(o.AuditDir, "clock"), clock.Options{Log: o.Log}); err != nil {
		return fmt.Errorf("open the clock: %w", err)
	}
	defer func() { err = errors.Join(err, a.clock.Close()) }()
	a.ship = a.newShip()
	finish := a.startShip()
	defer finish()
	if err := a.record(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.recorder.Close()) }()
	watched := make(chan struct{})
	watching, stopWatching := context.WithCancel(ctx)
	go func() {
		defer close(watched)
		a.watch(watching)
	}()
	defer func() {
		stopWatching()
		<-watched
		a.tellEnds() // of an Envoy that ended a moment before us
	}()
	defer a.shut()
	a.awaitLog(ctx)
	a.look(ctx) // the first report says how it is
	if err := a.listen(); err != nil {
		return err
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// awaitLog waits until the log is open, or is known to be failing. Until then Envoy
// is left with what it has, and what it logs waits in the spool: to report that
// entries cannot be kept would close, at each start, what is open.
func (a *agent) awaitLog(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, opening := a.recorder.State(); !opening {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// shut ends what was begun by listen.
func (a *agent) shut() {
	for _, s := range a.servers {
		s.Stop()
	}
	if a.upstream != nil {
		_ = a.upstream.Close() // there is nothing to flush
	}
	if a.metrics != nil {
		_ = a.metrics.Close() // likewise
	}
}
