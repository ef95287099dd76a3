package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc" // a kubeconfig may say so
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/version"
)

// ErrNoCluster is what the error is when no kubeconfig names a cluster.
var ErrNoCluster = errors.New("no kubeconfig names a cluster")

// ErrUnknown is what the error is when a request may have been carried out although
// its answer did not come.
var ErrUnknown = errors.New("whether it was made is not known")

// answerTimeout bounds one request to the API server that is no watch.
const answerTimeout = 15 * time.Second

// Cluster is a Kubernetes cluster with our controller.
type Cluster struct {
	// Config is how its API server is reached.
	Config *rest.Config
	// Scheme and Mapper know the kinds that are read.
	Scheme *runtime.Scheme
	Mapper meta.RESTMapper

	objects client.WithWatch
	http    *http.Client
	info    Info
}

// Connect finds the cluster as kubectl does: by the kubeconfig that is named, else
// those of $KUBECONFIG, else ~/.kube/config, else as a pod of it; and in it the
// context that is named, else the current one. Nothing is asked for yet.
func Connect(kubeconfig, contextName string) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	rules.Warner = func(error) {} // of files of $KUBECONFIG that are not there
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: contextName})
	cfg, err := loader.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, ErrNoCluster
	case err != nil:
		return nil, fmt.Errorf("find the cluster (--kubeconfig, --context): %w", err)
	}
	cfg.UserAgent = "breakglass/" + version.Version
	cfg.QPS = -1 // the API server's own fairness is enough
	cfg.WarningHandlerWithContext = rest.NoWarnings{}
	c := &Cluster{Config: cfg, Scheme: newScheme(), Mapper: newMapper(), info: Info{Server: "the API server", Cluster: true, Where: cfg.Host}}
	raw, err := loader.RawConfig()
	if err == nil {
		name := contextName
		if name == "" {
			name = raw.CurrentContext
		}
		if known := raw.Contexts[name]; known != nil {
			c.info.Namespace = known.Namespace
			c.info.Where = fmt.Sprintf("%s (context %s)", cfg.Host, name)
		}
	}
	if c.http, err = rest.HTTPClientFor(cfg); err != nil {
		return nil, fmt.Errorf("reach the cluster %s: %w", c.info.Where, err)
	}
	if c.objects, err = client.NewWithWatch(cfg, client.Options{Scheme: c.Scheme, Mapper: c.Mapper, HTTPClient: c.http}); err != nil {
		return nil, fmt.Errorf("reach the cluster %s: %w", c.info.Where, err)
	}
	return c, nil
}

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, gwv1.Install, v1alpha1.AddToScheme} {
		utilruntime.Must(add(s))
	}
	return s
}

// newMapper spares the round trips that would find out what is known.
func newMapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	gateway := schema.GroupVersion(gwv1.GroupVersion)
	for _, k := range []struct {
		group      schema.GroupVersion
		kind, name string
		scope      meta.RESTScope
	}{
		{gateway, "GatewayClass", "gatewayclasses", meta.RESTScopeRoot},
		{gateway, "Gateway", "gateways", meta.RESTScopeNamespace},
		{gateway, "HTTPRoute", "httproutes", meta.RESTScopeNamespace},
		{gateway, "GRPCRoute", "grpcroutes", meta.RESTScopeNamespace},
		{gateway, "ReferenceGrant", "referencegrants", meta.RESTScopeNamespace},
		{gateway, "BackendTLSPolicy", "backendtlspolicies", meta.RESTScopeNamespace},
		{v1alpha1.GroupVersion, "EmergencyPolicy", "emergencypolicies", meta.RESTScopeRoot},
		{v1alpha1.GroupVersion, "Activation", "activations", meta.RESTScopeNamespace},
		{v1alpha1.GroupVersion, "ActivationReview", "activationreviews", meta.RESTScopeNamespace},
		{corev1.SchemeGroupVersion, "Namespace", "namespaces", meta.RESTScopeRoot},
		{corev1.SchemeGroupVersion, "Service", "services", meta.RESTScopeNamespace},
		{corev1.SchemeGroupVersion, "Secret", "secrets", meta.RESTScopeNamespace},
		{corev1.SchemeGroupVersion, "ConfigMap", "configmaps", meta.RESTScopeNamespace},
		{discoveryv1.SchemeGroupVersion, "EndpointSlice", "endpointslices", meta.RESTScopeNamespace},
	} {
		plural := k.group.WithResource(k.name)
		m.AddSpecific(k.group.WithKind(k.kind), plural, plural, k.scope)
	}
	return m
}

// Info says which cluster it is.
func (c *Cluster) Info() Info { return c.info }

// Reader reads objects from the API server itself.
func (c *Cluster) Reader() client.Reader { return c.objects }

// Close lets go of connections that are not in use.
func (c *Cluster) Close() { c.http.CloseIdleConnections() }

// Activate makes the Activation. Who asks is written down by the API server.
func (c *Cluster) Activate(ctx context.Context, req control.ActivateRequest) (*v1alpha1.Activation, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	a := req.Activation.DeepCopy()
	err := c.objects.Create(ctx, a)
	if err == nil {
		return a, nil
	}
	told := c.explain(err, "make Activations", a.Namespace, "breakglass-activator-"+a.Spec.Role)
	if arrived(err) {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, told)
	}
	return nil, told
}

// Wait reads the Activation, and watches it from there on.
func (c *Cluster) Wait(ctx context.Context, key types.NamespacedName, done func(*v1alpha1.Activation) bool) (*v1alpha1.Activation, error) {
	var last *v1alpha1.Activation
	for {
		now, err := c.get(ctx, key)
		switch {
		case ctx.Err() != nil:
			return last, ctx.Err()
		case err != nil && last != nil && control.CodeOf(err) == control.NotFound:
			return last, control.Errorf(control.NotFound, "Activation %s was deleted, which closes what it had opened", key)
		case err != nil:
			return last, err
		}
		if last = now; done(now) {
			return now, nil
		}
		found, err := c.follow(ctx, now, &last, done)
		if found || err != nil {
			return last, err
		}
		// The watch has ended, as watches do.
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *Cluster) get(ctx context.Context, key types.NamespacedName) (*v1alpha1.Activation, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	a := &v1alpha1.Activation{}
	if err := c.objects.Get(ctx, key, a); err != nil {
		return nil, c.explain(err, "see Activations", key.Namespace, "breakglass-viewer")
	}
	return a, nil
}

// follow calls done with each change after from, until done returns true or the
// watch ends.
func (c *Cluster) follow(ctx context.Context, from *v1alpha1.Activation, last **v1alpha1.Activation, done func(*v1alpha1.Activation) bool) (bool, error) {
	w, err := c.objects.Watch(ctx, &v1alpha1.ActivationList{}, client.InNamespace(from.Namespace), client.MatchingFields{"metadata.name": from.Name},
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: from.ResourceVersion}})
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, c.explain(err, "watch Activations", from.Namespace, "breakglass-viewer")
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case e, more := <-w.ResultChan():
			if !more || e.Type == watch.Deleted || e.Type == watch.Error {
				return false, nil // to be read anew
			}
			if a, is := e.Object.(*v1alpha1.Activation); is {
				if *last = a; done(a) {
					return true, nil
				}
			}
		}
	}
}
