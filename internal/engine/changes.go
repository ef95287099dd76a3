package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

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
func (l *Engine) noteChanges(ctx context.Context, old, set *source.Set) {
	if old == nil {
		// To digest thousands of objects takes a while: not on the loop.
		go func() {
			r := loaded(set)
			_ = l.ask(ctx, func() { l.unwritten = append(l.unwritten, entry(audit.KindConfig, r)) }) // unless it ends before
		}()
		return
	}
	r := configRecord{V: 1}
	for _, key := range changes(old, set) {
		if len(r.Changes) == maxChanges {
			r.More++
			continue
		}
		r.Changes = append(r.Changes, change(old, set, key))
	}
	if len(r.Changes) > 0 {
		l.unwritten = append(l.unwritten, entry(audit.KindConfig, r))
	}
}

func loaded(set *source.Set) configRecord {
	all := changes(&source.Set{}, set)
	h := sha256.New()
	for _, key := range all {
		fmt.Fprintf(h, "%s %s\n", objectName(key), digestObject(key, set.Object(key)))
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

func change(old, set *source.Set, key source.ObjectKey) configChange {
	before, now := old.Object(key), set.Object(key)
	c := configChange{Change: "changed", Object: objectName(key), Digest: digestObject(key, now), File: set.Origins[key].File, OwnerID: set.Origins[key].OwnerUID}
	switch {
	case before == nil:
		c.Change = "added"
	case now == nil:
		c.Change, c.Digest, c.File, c.OwnerID = "removed", "", old.Origins[key].File, 0
	}
	return c
}

// changes are the objects that differ between two sets, but for policies and
// activations, sorted.
func changes(old, set *source.Set) []source.ObjectKey {
	keys := slices.DeleteFunc(set.Differences(old), func(k source.ObjectKey) bool {
		return k.Kind == "EmergencyPolicy" || k.Kind == "Activation"
	})
	slices.SortFunc(keys, func(a, b source.ObjectKey) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return keys
}
