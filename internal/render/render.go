// Package render shows a reviewer what Envoy would get from manifests at a time.
//
// It is the translator and nothing else, with a journal that is made up: windows
// that the reviewer asks for, and Activations among the manifests, are opened at
// that time. The same manifests and time give the same document, byte for byte.
// No private key is in it, and key sets are digests.
package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// Options of a Render.
type Options struct {
	At    time.Time
	Opens []Open
	// Gateway, if set, is the only one to show.
	Gateway types.NamespacedName
	// Full shows what is the same in every Gateway too: the filters that hold the
	// locks, and the access logs. Else they are digests.
	Full bool
}

// Document is what Envoy would get.
type Document struct {
	At time.Time `json:"at" yaml:"at"`
	// StandIns are what the manifests do not hold and was made up.
	StandIns []string `json:"standIns,omitempty" yaml:"standIns,omitempty"`
	Windows  []Window `json:"windows" yaml:"windows"`
	// Next instant at which something changes by time alone. Zero: none.
	Next     *time.Time `json:"next,omitempty" yaml:"next,omitempty"`
	Gateways []Gateway  `json:"gateways" yaml:"gateways"`
}

// Window is an activation, and what became of it.
type Window struct {
	Activation string         `json:"activation" yaml:"activation"`
	Targets    []string       `json:"targets" yaml:"targets"`
	Role       string         `json:"role" yaml:"role"`
	Phase      v1alpha1.Phase `json:"phase" yaml:"phase"`
	Deadline   *time.Time     `json:"deadline,omitempty" yaml:"deadline,omitempty"`
	Message    string         `json:"message,omitempty" yaml:"message,omitempty"`
}

// Gateway is what its Envoy would get.
type Gateway struct {
	Gateway string `json:"gateway" yaml:"gateway"`
	// Open until then. Nil: nothing is open.
	OpenUntil *time.Time `json:"openUntil,omitempty" yaml:"openUntil,omitempty"`
	// Resources by type (Listener, Cluster, ...), each sorted by name.
	Resources map[string][]Resource `json:"resources" yaml:"resources"`
}

// Resource is one xDS resource.
type Resource struct {
	Name    string     `json:"name" yaml:"name"`
	Owner   string     `json:"owner,omitempty" yaml:"owner,omitempty"`
	Version string     `json:"version" yaml:"version"`
	Expires *time.Time `json:"expires,omitempty" yaml:"expires,omitempty"`
	Needs   []string   `json:"needs,omitempty" yaml:"needs,omitempty"`
	Body    any        `json:"body" yaml:"body"`
}

// Render shows what Envoy would get.
func Render(objects translator.Objects, o Options) (*Document, error) {
	full, err := complete(objects)
	if err != nil {
		return nil, err
	}
	requests, err := requests(objects, o)
	if err != nil {
		return nil, err
	}
	out, _, err := Settle(translator.Input{Objects: full.objects, Now: o.At, Requests: requests})
	if err != nil {
		return nil, err
	}
	d := &Document{At: o.At, StandIns: full.notes, Windows: []Window{}, Gateways: []Gateway{}, Next: pointer(out.Next)}
	for _, key := range sorted(out.Statuses.Activations) {
		d.Windows = append(d.Windows, window(key, out))
	}
	for _, key := range sorted(out.Gateways) {
		if o.Gateway != (types.NamespacedName{}) && o.Gateway != key {
			continue
		}
		g, err := full.gateway(key, out.Gateways[key], o.Full)
		if err != nil {
			return nil, err
		}
		d.Gateways = append(d.Gateways, g)
	}
	if len(d.Gateways) == 0 && o.Gateway != (types.NamespacedName{}) {
		return nil, fmt.Errorf("there is no emergency Gateway %s in the manifests: those there are: %s", o.Gateway, names(out.Gateways))
	}
	return d, nil
}

func names[V any](m map[types.NamespacedName]V) string {
	var out []string
	for _, key := range sorted(m) {
		out = append(out, key.String())
	}
	return cmp.Or(strings.Join(out, ", "), "none")
}

func sorted[V any](m map[types.NamespacedName]V) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(m), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

func pointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// requests are the windows asked for, as activations of their own.
func requests(objects translator.Objects, o Options) (map[types.NamespacedName]activation.Record, error) {
	out := map[types.NamespacedName]activation.Record{}
	for i, open := range o.Opens {
		route := translator.RouteOf(&objects, open.Route)
		if route == nil {
			there := names(objects.HTTPRoutes)
			if open.Route.Kind == v1alpha1.KindGRPCRoute {
				there = names(objects.GRPCRoutes)
			}
			return nil, fmt.Errorf("%s is not in the manifests: those there are: %s", open.Route, there)
		}
		role := cmp.Or(open.Role, route.Labels[v1alpha1.RoleLabel])
		if role == "" {
			return nil, fmt.Errorf("%s has no label %s: name the role to open it with", open.Route, v1alpha1.RoleLabel)
		}
		target := v1alpha1.TargetReference{Group: gwv1.GroupName, Kind: open.Route.Kind, Name: open.Route.Name}
		if open.Rule != "" {
			section := gwv1.SectionName(open.Rule)
			target.SectionName = &section
		}
		a := &v1alpha1.Activation{
			ObjectMeta: metav1.ObjectMeta{Namespace: open.Route.Namespace, Name: fmt.Sprintf("render-%d", i+1)},
			Spec: v1alpha1.ActivationSpec{
				TargetRefs: []v1alpha1.TargetReference{target}, Role: role, Reason: "breakglass render", Incident: "breakglass-render",
			},
		}
		if open.Duration > 0 {
			d := gwv1.Duration(open.Duration.String())
			a.Spec.Duration = &d
		}
		// The policy may want it of every activation; the duration bounds it anyway.
		day := metav1.NewTime(o.At.Add(24 * time.Hour))
		a.Spec.NotAfter = &day
		out[types.NamespacedName{Namespace: a.Namespace, Name: a.Name}] = activation.New(a, activation.Control, "", o.At)
	}
	return out, nil
}

func window(key types.NamespacedName, out *translator.Result) Window {
	st, r := out.Statuses.Activations[key], out.Records[key]
	w := Window{Activation: key.String(), Role: r.Spec.Role, Phase: st.Phase}
	for _, t := range r.Spec.TargetRefs {
		name := activation.RouteOf(key.Namespace, t).Ref()
		if t.SectionName != nil {
			name += "#" + string(*t.SectionName)
		}
		w.Targets = append(w.Targets, name)
	}
	if st.Deadline != nil && !st.Phase.Final() {
		w.Deadline = pointer(st.Deadline.Time)
	}
	for _, c := range st.Conditions {
		if c.Status != metav1.ConditionTrue && c.Message != "" {
			w.Message = c.Message
		}
	}
	return w
}

func (s *standIns) gateway(key types.NamespacedName, g *translator.Gateway, all bool) (Gateway, error) {
	out := Gateway{Gateway: key.String(), OpenUntil: pointer(g.LastDeadline), Resources: map[string][]Resource{}}
	sorted := slices.SortedFunc(g.Snapshot.All(), func(a, b *snapshot.Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	for _, r := range sorted {
		k := r.Key
		body, err := s.body(r, all)
		if err != nil {
			return out, fmt.Errorf("Gateway %s: resource %s: %w", key, k.Name, err)
		}
		item := Resource{Name: k.Name, Owner: r.Owner, Version: r.Version, Expires: pointer(r.Expires), Body: body}
		for _, n := range r.Needs {
			item.Needs = append(item.Needs, kindOf(n.Type)+" "+n.Name)
		}
		out.Resources[kindOf(k.Type)] = append(out.Resources[kindOf(k.Type)], item)
	}
	return out, nil
}

// kindOf is the short name of an xDS type.
func kindOf(typ string) string { return typ[strings.LastIndexByte(typ, '.')+1:] }
