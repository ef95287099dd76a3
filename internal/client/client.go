// Package client is how the command line reaches what opens doors: a running serve
// by its control socket, or the controller of a Kubernetes cluster by the API
// server, where the objects themselves are the interface. Whoever has a Client
// need not know which it is.
package client

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// Client asks, and waits for what comes of it. Its errors are those of package
// control where the other side has said something.
type Client interface {
	Info() Info
	// Status of what may be seen. With a namespace, routes and activations of others
	// may be missing.
	Status(ctx context.Context, namespace string) (*control.Status, error)
	// Activate returns the activation as first seen.
	Activate(context.Context, control.ActivateRequest) (*v1alpha1.Activation, error)
	// Wait calls done with the activation as it is now and after each change, until
	// done returns true. When the context ends first it returns the activation as
	// it was last seen, if it was, and the context's error.
	Wait(ctx context.Context, key types.NamespacedName, done func(*v1alpha1.Activation) bool) (*v1alpha1.Activation, error)
	// Revoke returns what it asked to end, and what was named. An error may come
	// with some that will end.
	Revoke(context.Context, control.RevokeRequest) ([]v1alpha1.Activation, error)
	// Review gives a verdict, and returns what became of it.
	Review(context.Context, control.ReviewRequest) (*v1alpha1.ReviewStatus, error)
	// Timeline calls fn with what happened since then, the oldest first.
	Timeline(ctx context.Context, since time.Time, fn func(control.TimelineEntry) error) error
	Close()
}

// Info says who answers.
type Info struct {
	// Server in words, and Where it is.
	Server, Where string
	// Cluster: it is an API server.
	Cluster bool
	// Namespace that is meant when none is named. Empty: it is looked up.
	Namespace string
}

var _, _ Client = &serve{}, &Cluster{}

// serve is a running serve.
type serve struct {
	*control.Client
	path string
}

// Serve is the client of the serve that listens at path.
func Serve(path string) (Client, error) {
	c, err := control.Dial(path)
	if err != nil {
		return nil, err
	}
	return &serve{c, path}, nil
}

func (s *serve) Info() Info { return Info{Server: "breakglass serve", Where: s.path} }

func (s *serve) Review(ctx context.Context, req control.ReviewRequest) (*v1alpha1.ReviewStatus, error) {
	a, err := s.Client.Review(ctx, req)
	if err != nil {
		return nil, err
	}
	return a.Status.Review, nil
}

func (s *serve) Status(ctx context.Context, _ string) (*control.Status, error) {
	return s.Client.Status(ctx)
}
