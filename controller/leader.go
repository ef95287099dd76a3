package controller

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseName is the Lease by which the replicas agree.
const leaseName = "breakglass-controller"

// A leader that is gone is followed by another after leaseFor at most; until then
// nothing opens. One that cannot renew for renewFor leads no more.
const (
	leaseFor   = 6 * time.Second
	renewFor   = 4 * time.Second
	renewEvery = time.Second
)

// leader is whether this replica decides.
type leader struct {
	is      atomic.Bool
	changed func()
	log     *slog.Logger
}

// run takes part in the election until ctx ends. Who loses the lead goes on
// serving, and tries again.
func (l *leader) run(ctx context.Context, clients kubernetes.Interface, namespace, identity string) {
	lock := &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: leaseName}, Client: clients.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}
	for ctx.Err() == nil {
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: leaseFor, RenewDeadline: renewFor, RetryPeriod: renewEvery, ReleaseOnCancel: true, Name: leaseName,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { l.set(true) },
				OnStoppedLeading: func() { l.set(false) },
			},
		})
	}
}

func (l *leader) set(is bool) {
	if l.is.Swap(is) != is {
		l.log.Info("leading", "leads", is)
		l.changed()
	}
}
