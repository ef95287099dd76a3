package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// cloud is what a cloud does for Kubernetes, as far as can be seen from within: load balancers get addresses, and volumes
// that nobody has any more are there for others. It looks twice a second: the less it remembers, the less is wrong.
type cloud struct {
	client client.CoreV1Interface
	// volumes is the directory with those of the node.
	volumes string
}

func newCloud(kubeconfig, volumes string) (*cloud, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	c, err := client.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &cloud{client: c, volumes: volumes}, nil
}

func (c *cloud) run(ctx context.Context) {
	for {
		if err := errors.Join(c.balance(ctx), c.recycle(ctx)); err != nil {
			slog.Error("cannot do what a cloud does; trying again", "error", err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// balance gives each Service that wants a load balancer an address of its own. All of them are on the node, where
// kube-proxy passes on what comes for them.
func (c *cloud) balance(ctx context.Context) error {
	services, err := c.client.Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	changed, err := assign(services.Items, netip.MustParsePrefix(balancers))
	errs := []error{err}
	for _, s := range changed {
		if _, err := c.client.Services(s.Namespace).UpdateStatus(ctx, s, metav1.UpdateOptions{}); err != nil {
			errs = append(errs, fmt.Errorf("service %s/%s: %w", s.Namespace, s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// assign returns the Services whose address is to be another than they have. One that asks for an address gets that or
// none: it is of the pool, and nobody has it. Those that ask are served first, so that nobody who does not care is in
// their way.
func assign(services []corev1.Service, pool netip.Prefix) (changed []*corev1.Service, err error) {
	waiting, used, changed := unassigned(services)
	for _, s := range waiting {
		address := s.Spec.LoadBalancerIP
		if address == "" {
			if address, err = free(used, pool); err != nil {
				return changed, err
			}
		} else if a, err := netip.ParseAddr(address); err != nil || !pool.Contains(a) || used[address] {
			continue
		}
		used[address] = true
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
		if !slices.Contains(changed, s) {
			changed = append(changed, s)
		}
	}
	return changed, nil
}

// unassigned are the Services that have no address, or not the one that they ask for, which is taken from them. Those
// that ask come first.
func unassigned(services []corev1.Service) (waiting []*corev1.Service, used map[string]bool, changed []*corev1.Service) {
	used = map[string]bool{}
	for i := range services {
		s := &services[i]
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.LoadBalancerClass != nil {
			continue
		}
		has, asks := "", s.Spec.LoadBalancerIP
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			has = ingress.IP
		}
		if has != "" && (asks == "" || asks == has) {
			used[has] = true
			continue
		}
		if has != "" {
			s.Status.LoadBalancer.Ingress = nil
			changed = append(changed, s)
		}
		waiting = append(waiting, s)
	}
	slices.SortStableFunc(waiting, func(a, b *corev1.Service) int {
		return cmp.Compare(b.Spec.LoadBalancerIP, a.Spec.LoadBalancerIP) // those that ask for nothing last
	})
	return waiting, used, changed
}

func free(used map[string]bool, pool netip.Prefix) (string, error) {
	for a := pool.Addr().Next(); pool.Contains(a); a = a.Next() {
		if !used[a.String()] {
			return a.String(), nil
		}
	}
	return "", fmt.Errorf("every address of %s is in use", pool)
}

// recycle empties volumes whose claim has gone, which it does after the last pod that used it, and offers them again.
func (c *cloud) recycle(ctx context.Context) error {
	volumes, err := c.client.PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range volumes.Items {
		if v.Status.Phase != corev1.VolumeReleased || v.Spec.HostPath == nil || !strings.HasPrefix(v.Spec.HostPath.Path, c.volumes+"/") {
			continue
		}
		err := empty(v.Spec.HostPath.Path)
		if err == nil {
			v.Spec.ClaimRef = nil
			_, err = c.client.PersistentVolumes().Update(ctx, &v, metav1.UpdateOptions{})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", v.Name, err))
		}
	}
	return errors.Join(errs...)
}

func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
