package serve

import (
	"context"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// Objects are the manifests in use. No private key and no token leaves serve this
// way, whoever asks.
func (b backend) Objects(context.Context) (*control.Objects, error) {
	v := b.view.Load()
	if v == nil {
		return nil, control.Errorf(control.Unavailable, "the manifests are not loaded yet: try again")
	}
	dir, err := filepath.Abs(b.opts.ConfigDir)
	if err != nil {
		return nil, fmt.Errorf("configuration directory %s: %w", b.opts.ConfigDir, err)
	}
	out := &control.Objects{ConfigDir: dir, Items: []control.Object{}}
	for _, o := range v.set.Objects() {
		manifest, err := source.Manifest(withoutSecrets(o.Object))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
		file := o.Origin.File // as serve was given the directory, which may be relative to where it was started
		if below, err := filepath.Rel(b.opts.ConfigDir, file); err == nil {
			file = below
		}
		out.Items = append(out.Items, control.Object{File: file, Line: o.Origin.Line, Manifest: manifest})
	}
	return out, nil
}

// withoutSecrets leaves of a Secret what every client of the Gateway is shown.
func withoutSecrets(o runtime.Object) runtime.Object {
	sec, ok := o.(*corev1.Secret)
	if !ok {
		return o
	}
	public := &corev1.Secret{TypeMeta: sec.TypeMeta, Type: sec.Type, Immutable: sec.Immutable}
	public.Namespace, public.Name = sec.Namespace, sec.Name
	if ignored, there := sec.Annotations[v1alpha1.LintIgnoreAnnotation]; there {
		public.Annotations = map[string]string{v1alpha1.LintIgnoreAnnotation: ignored}
	}
	if cert, there := sec.Data[corev1.TLSCertKey]; there {
		public.Data = map[string][]byte{corev1.TLSCertKey: cert}
	}
	return public
}
