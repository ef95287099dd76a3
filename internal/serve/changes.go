package serve

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// maxChanges bounds how many objects one entry names.
const maxChanges = 200

// configRecord is the data of a "config" entry: what changed in the manifests.
// Policies and Activations have entries of their own.
type configRecord struct {
	V int `json:"v"` // 1
	// Loaded: at the start; Objects are then all there are, and Digest is over
	// them. It differs from that of the entry before if something was changed
	// while nothing was served.
	Loaded  bool   `json:"loaded,omitempty"`
	Objects int    `json:"objects,omitempty"`
	Digest  string `json:"digest,omitempty"`

	Changes []configChange `json:"changes,omitempty"`
	// More is how many changes there are beyond those.
	More int `json:"more,omitempty"`
}

// configChange is one object that was added, changed or removed.
type configChange struct {
	Change string `json:"change"`
	Object string `json:"object"`
	Digest string `json:"digest,omitempty"` // not of Secrets
	File   string `json:"file,omitempty"`
	// OwnerID is the owner of the file.
	OwnerID uint32 `json:"ownerUID,omitempty"`
}

// noteChanges records what differs between two sets. Objects that did not change
// are the same pointers.
func (l *loop) noteChanges(ctx context.Context, old, set *source.Set) {
	if old == nil {
		// To digest thousands of objects takes a while: not on the loop.
		go func() {
			r := loaded(set)
			_ = l.ask(ctx, func() { l.unwritten = append(l.unwritten, entry(audit.KindConfig, r)) }) // unless it ends before
		}()
		return
	}
	was, is := objects(old), objects(set)
	r := configRecord{V: 1}
	for _, key := range sortedObjects(was, is) {
		before, now := was[key], is[key]
		if before == now {
			continue
		}
		if len(r.Changes) == maxChanges {
			r.More++
			continue
		}
		c := configChange{Change: "changed", Object: objectName(key), Digest: digestObject(key, now), File: set.Origins[key].File, OwnerID: set.Origins[key].OwnerUID}
		switch {
		case before == nil:
			c.Change = "added"
		case now == nil:
			c.Change, c.Digest, c.File, c.OwnerID = "removed", "", old.Origins[key].File, 0
		}
		r.Changes = append(r.Changes, c)
	}
	if len(r.Changes) > 0 {
		l.unwritten = append(l.unwritten, entry(audit.KindConfig, r))
	}
}

func loaded(set *source.Set) configRecord {
	all := objects(set)
	h := sha256.New()
	for _, key := range sortedObjects(all, nil) {
		fmt.Fprintf(h, "%s %s\n", objectName(key), digestObject(key, all[key]))
	}
	return configRecord{V: 1, Loaded: true, Objects: len(all), Digest: hex.EncodeToString(h.Sum(nil))}
}

func objectName(k source.ObjectKey) string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// digestObject is the digest of what an object says; a Secret's would say
// something of a secret.
func digestObject(k source.ObjectKey, o any) string {
	if o == nil || k.Kind == "Secret" {
		return ""
	}
	return activation.Digest(o)
}

func sortedObjects(a, b map[source.ObjectKey]any) []source.ObjectKey {
	keys := make([]source.ObjectKey, 0, len(a))
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b source.ObjectKey) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return keys
}

// objects of a set but for policies and activations, each a pointer.
func objects(s *source.Set) map[source.ObjectKey]any {
	out := map[source.ObjectKey]any{}
	addNamed(out, "Namespace", s.Namespaces)
	addNamed(out, "GatewayClass", s.GatewayClasses)
	addObjects(out, "Gateway", s.Gateways)
	addObjects(out, "HTTPRoute", s.HTTPRoutes)
	addObjects(out, "ReferenceGrant", s.ReferenceGrants)
	addObjects(out, "Service", s.Services)
	addObjects(out, "EndpointSlice", s.EndpointSlices)
	addObjects(out, "Secret", s.Secrets)
	addObjects(out, "ConfigMap", s.ConfigMaps)
	return out
}

func addNamed[T any](out map[source.ObjectKey]any, kind string, m map[string]*T) {
	for name, o := range m {
		out[source.ObjectKey{Kind: kind, Name: name}] = o
	}
}

func addObjects[T any](out map[source.ObjectKey]any, kind string, m map[types.NamespacedName]*T) {
	for key, o := range m {
		out[source.ObjectKey{Kind: kind, Namespace: key.Namespace, Name: key.Name}] = o
	}
}
