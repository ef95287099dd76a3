package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// Of the Lease in which a replica says what its Envoys serve.
const (
	replicaLabel     = "breakglass.dev/replica"
	servesAnnotation = "breakglass.dev/serves"
)

// A replica says at least every sayEvery that it is there. One that has not for
// silentFor is not asked: if it is gone, its Envoys are connected to others by then.
const (
	sayEvery  = 2 * time.Second
	silentFor = 7 * time.Second
)

// serves is what the annotation says.
type serves struct {
	// Envoys by Gateway, namespace/name.
	Envoys map[string]int `json:"envoys,omitempty"`
	// Leases that all of them have.
	Leases []string `json:"leases,omitempty"`
}

// peers tells the other replicas what the Envoys of this one serve, and keeps what they
// tell. It goes through the API server: it is for the status of Activations alone,
// and nothing opens or closes by it.
type peers struct {
	client    client.Client // not cached
	log       *slog.Logger
	last      func() *outcome
	envoys    func(types.NamespacedName) int
	changed   func()
	namespace string
	name      string

	wake chan struct{}
	mu   sync.Mutex
	said map[string]said
}

type said struct {
	peer translator.Peer
	at   time.Time // by this replica's monotonic clock
}

func newPeers(o Options, last func() *outcome, envoys func(types.NamespacedName) int, changed func()) *peers {
	return &peers{log: o.Log, last: last, envoys: envoys, changed: changed, namespace: o.Namespace, name: o.identity(), wake: make(chan struct{}, 1), said: map[string]said{}}
}

func (p *peers) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// own is what this replica says.
func (p *peers) own() serves {
	out := serves{Envoys: map[string]int{}}
	o := p.last()
	if o == nil {
		return out
	}
	for key := range o.result.Gateways {
		if n := p.envoys(key); n > 0 {
			out.Envoys[key.String()] = n
		}
	}
	if len(out.Envoys) == 0 {
		return out
	}
	out.Leases = sortedKeys(o.result.Served)
	return out
}

// run says it until ctx ends.
func (p *peers) run(ctx context.Context) {
	tick := time.NewTicker(sayEvery)
	defer tick.Stop()
	before, failed := "", false
	for {
		due := false
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-tick.C:
			due = true
			p.forget()
		}
		text, err := json.Marshal(p.own())
		if err != nil || !due && string(text) == before {
			continue
		}
		if err := p.say(ctx, string(text)); err != nil {
			if !failed && ctx.Err() == nil {
				p.log.Warn("cannot tell the other replicas what is served here; trying again", "error", err)
			}
			failed = true
			continue
		}
		before, failed = string(text), false
	}
}

func (p *peers) say(ctx context.Context, text string) error {
	now, seconds := metav1.NowMicro(), int32(silentFor/time.Second)
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.namespace, Name: "breakglass-replica-" + strings.ToLower(p.name),
			Labels: map[string]string{replicaLabel: "true"}, Annotations: map[string]string{servesAnnotation: text},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &p.name, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}
	u, err := applied(lease, p.client.Scheme())
	if err != nil {
		return err
	}
	return p.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(fieldOwner), client.ForceOwnership)
}

// follow listens to the others.
func (p *peers) follow(ctx context.Context, c cache.Cache) error {
	informer, err := c.GetInformer(ctx, &coordinationv1.Lease{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch Leases: %w", err)
	}
	handled, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { p.heard(o, false) },
		UpdateFunc: func(_, o any) { p.heard(o, false) },
		DeleteFunc: func(o any) { p.heard(o, true) },
	})
	if err != nil {
		return fmt.Errorf("watch Leases: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), handled.HasSynced) {
		return fmt.Errorf("the Leases could not be read: %w", ctx.Err())
	}
	return nil
}

func (p *peers) heard(o any, gone bool) {
	if d, is := o.(toolscache.DeletedFinalStateUnknown); is {
		o = d.Obj
	}
	lease, ok := o.(*coordinationv1.Lease)
	if !ok || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == p.name {
		return
	}
	name := *lease.Spec.HolderIdentity
	var s serves
	if json.Unmarshal([]byte(lease.Annotations[servesAnnotation]), &s) != nil {
		return
	}
	peer := translator.Peer{Name: name, Envoys: map[types.NamespacedName]int{}, Serving: map[string]bool{}}
	for key, n := range s.Envoys {
		namespace, gateway, _ := strings.Cut(key, "/")
		peer.Envoys[types.NamespacedName{Namespace: namespace, Name: gateway}] = n
	}
	for _, l := range s.Leases {
		peer.Serving[l] = true
	}
	p.mu.Lock()
	was, known := p.said[name]
	news := gone == known || !gone && (!maps.Equal(was.peer.Envoys, peer.Envoys) || !maps.Equal(was.peer.Serving, peer.Serving))
	if delete(p.said, name); !gone {
		p.said[name] = said{peer, time.Now()}
	}
	p.mu.Unlock()
	if news {
		p.changed()
	}
}

// forget drops those who have been silent for too long.
func (p *peers) forget() {
	p.mu.Lock()
	n := len(p.said)
	maps.DeleteFunc(p.said, func(_ string, s said) bool { return time.Since(s.at) > silentFor })
	news := len(p.said) != n
	p.mu.Unlock()
	if news {
		p.changed()
	}
}

// all that others say.
func (p *peers) all() []translator.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []translator.Peer
	for _, name := range sortedKeys(p.said) {
		out = append(out, p.said[name].peer)
	}
	return out
}
