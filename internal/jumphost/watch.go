package jumphost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const (
	// quiet is how long nothing must change before what there is is written: what
	// belongs together rarely comes at once. busy is how long that may take.
	quiet, busy = time.Second, 10 * time.Second
	// again is how often all is looked at anew: key sets are not watched, and what
	// has failed may not any more.
	again = 15 * time.Second
)

// Watching is what Watch works with.
type Watching struct {
	Config *rest.Config
	Scheme *runtime.Scheme
	Mapper meta.RESTMapper
	// Direct reads from the API server itself.
	Direct  client.Reader
	Options Options
	// Write takes an export. Failed is told what could not be read, made or written,
	// by several goroutines.
	Write  func(*Export) error
	Failed func(error)
}

// Watch writes an export at once and after changes, until ctx ends. What has failed
// is tried again.
func Watch(ctx context.Context, w Watching) error {
	ctrllog.SetLogger(logr.Discard()) // what is wrong is told in our words
	klog.SetLogger(logr.Discard())
	c, err := cache.New(w.Config, cache.Options{
		Scheme: w.Scheme, Mapper: w.Mapper, ReaderFailOnMissingInformer: true, DefaultTransform: dropManagedFields, DefaultWatchErrorHandler: w.watchFailed,
	})
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	of, read, err := informers(ctx, c, w.Direct, func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	go func() { _ = c.Start(ctx) }() // it ends with ctx
	if !toolscache.WaitForCacheSync(ctx.Done(), read...) {
		return ctx.Err()
	}
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		if err := w.once(ctx, c, of); err != nil && ctx.Err() == nil {
			w.Failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-changed:
			settle(ctx, changed)
		}
	}
}

// once makes and writes an export. Nothing is written of what may be old: watches do
// not say that they have not heard anything for a while.
func (w *Watching) once(ctx context.Context, c client.Reader, of []kind) error {
	if err := w.Direct.List(ctx, &gwv1.GatewayClassList{}, client.Limit(1)); err != nil {
		return unread(err)
	}
	all, err := readAll(ctx, c, of)
	if err != nil {
		return err
	}
	e, err := pick(ctx, all, w.Direct, w.Options)
	if err != nil {
		return err
	}
	return w.Write(e)
}

func (w *Watching) watchFailed(ctx context.Context, _ *toolscache.Reflector, err error) {
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		w.Failed(unread(err))
	}
}

func unread(err error) error { return fmt.Errorf("the API server cannot be read: %w", cause(err)) }

// cause is the same for all kinds if they all have the same.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// informers of all kinds, which read nothing yet. An optional kind that the API
// server does not have is left out: it would never be read.
func informers(ctx context.Context, c cache.Cache, direct client.Reader, changed func(any)) (of []kind, read []toolscache.InformerSynced, err error) {
	for _, k := range kinds() {
		if err := direct.List(ctx, k.list(), client.Limit(1)); err != nil {
			if k.optional && absent(err) {
				continue
			}
			return nil, nil, fmt.Errorf("list %T: %w", k.obj, err)
		}
		informer, err := c.GetInformer(ctx, k.obj, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, nil, err
		}
		handled, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: changed, UpdateFunc: func(_, o any) { changed(o) }, DeleteFunc: changed,
		})
		if err != nil {
			return nil, nil, err
		}
		of, read = append(of, k), append(read, handled.HasSynced)
	}
	return of, read, nil
}

// settle waits until nothing has changed for a while.
func settle(ctx context.Context, changed <-chan struct{}) {
	limit := time.After(busy)
	for {
		select {
		case <-changed:
		case <-time.After(quiet):
			return
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

func dropManagedFields(o any) (any, error) {
	if obj, ok := o.(metav1.Object); ok {
		obj.SetManagedFields(nil)
	}
	return o, nil
}
