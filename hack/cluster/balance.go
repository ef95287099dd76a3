package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// balance is the load balancer of a cloud, as far as Kubernetes sees it: each Service that wants one gets an address of
// its own in its status. All of them are on the node, where kube-proxy passes on what comes for them.
func balance(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	services, err := client.NewForConfig(config)
	if err != nil {
		return err
	}
	b := balancer{services: services.Services(metav1.NamespaceAll), client: services}
	for {
		// A watch ends now and then, and begins with all that there is.
		if err := b.watch(context.Background()); err != nil {
			slog.Error("cannot give addresses to load balancers; trying again", "error", err)
		}
		time.Sleep(time.Second)
	}
}

type balancer struct {
	services client.ServiceInterface
	client   client.ServicesGetter
	// given are the addresses in use, by namespace/name.
	given map[string]netip.Addr
}

func (b *balancer) watch(ctx context.Context) error {
	list, err := b.services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	b.given = map[string]netip.Addr{}
	for i := range list.Items {
		b.remember(&list.Items[i])
	}
	for i := range list.Items {
		if err := b.give(ctx, &list.Items[i]); err != nil {
			return err
		}
	}
	w, err := b.services.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		s, ok := event.Object.(*corev1.Service)
		if !ok {
			return errors.New("the watch of services ended with an error")
		}
		if event.Type == watch.Deleted {
			delete(b.given, key(s))
		} else if err := b.give(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func key(s *corev1.Service) string { return s.Namespace + "/" + s.Name }

func (b *balancer) remember(s *corev1.Service) {
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(ingress.IP); err == nil {
			b.given[key(s)] = a
		}
	}
}

func (b *balancer) give(ctx context.Context, s *corev1.Service) error {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.LoadBalancerClass != nil || len(s.Status.LoadBalancer.Ingress) > 0 {
		return nil
	}
	address, err := b.free()
	if err != nil {
		return err
	}
	s = s.DeepCopy()
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address.String()}}
	if _, err := b.client.Services(s.Namespace).UpdateStatus(ctx, s, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("service %s: %w", key(s), err)
	}
	b.given[key(s)] = address
	return nil
}

func (b *balancer) free() (netip.Addr, error) {
	used := map[netip.Addr]bool{}
	for _, a := range b.given {
		used[a] = true
	}
	all := netip.MustParsePrefix(balancers)
	for a := all.Addr().Next(); all.Contains(a); a = a.Next() {
		if !used[a] {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("every address of %s is in use", balancers)
}
