package activation

import (
	"encoding/json"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// FuzzRecord: whatever stands in the journal, no window is open that is not open
// by a record: opened, not ended, before its deadline, for a role that may open
// it; and no deadline moves later.
func FuzzRecord(f *testing.F) {
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	role := func(name string) v1alpha1.Role {
		return v1alpha1.Role{Name: name, Grants: []v1alpha1.Grant{{Issuer: "sso"}}}
	}
	most := gwv1.Duration("4h")
	policy := &Policy{Name: "emergency", Spec: v1alpha1.EmergencyPolicySpec{
		Roles: []v1alpha1.Role{role("db"), role("web")}, Limits: v1alpha1.Limits{MaxDuration: &most},
	}}
	route := &Route{
		Key: HTTPRoute(nn("db")), Role: "db", Digest: "1", Rules: []string{"#0", "read"}, Named: map[string]string{"read": "read"},
		Hostnames: []string{"db.example.com"}, URLs: map[string][]string{}, Policies: []*Policy{policy},
	}
	for _, r := range []string{
		`{"namespace":"pay","name":"a","origin":"control","spec":{"targetRefs":[{"kind":"HTTPRoute","name":"db"}],"role":"db","reason":"r","incident":"I"},"start":"2026-11-23T02:00:00Z","deadline":"2026-11-23T04:00:00Z","targets":{"HTTPRoute/db":{"route":"pay/db","digest":"1","openings":{"#0":"x","read":"y"},"openedAt":"2026-11-23T02:00:00Z"}}}`,
		`{"namespace":"pay","name":"a","origin":"manifest","spec":{"targetRefs":[{"kind":"HTTPRoute","name":"db","sectionName":"read"}],"role":"web"},"deadline":"9999-11-23T04:00:00Z","targets":{"HTTPRoute/db:read":{"digest":"1"}}}`,
		`{"namespace":"pay","name":"a","phase":"Expired","targets":{"HTTPRoute/db":{}}}`, `{"spec":{"targetRefs":[{},{}]},"start":"0001-01-01T00:00:00Z","deadline":"2262-01-01T00:00:00Z"}`, `{}`,
	} {
		f.Add([]byte(r), int64(0))
		f.Add([]byte(r), int64(time.Hour))
	}
	f.Fuzz(func(t *testing.T, b []byte, later int64) {
		var r Record
		if json.Unmarshal(b, &r) != nil {
			return
		}
		at := now.Add(time.Duration(later))
		p := Decide(Input{
			Now: at, Records: map[types.NamespacedName]Record{r.Key(): r},
			Route: func(key RouteKey) *Route {
				if key == route.Key {
					return route
				}
				return nil
			},
		})
		for key, w := range p.Windows {
			if r.Final() || r.Origin == Manifest || !at.Before(r.Deadline) || !at.Before(w.Deadline) || w.Deadline.After(r.Deadline) ||
				w.Role == nil || w.Role.Name != "db" || r.Spec.Role != "db" || r.Namespace != "pay" || len(r.Targets) == 0 || r.Spec.Revoked {
				t.Fatalf("%v is open at %s by %s: %+v", key, at, b, w)
			}
		}
		for _, fact := range p.Facts {
			if fact.Record.Deadline.After(r.Deadline) {
				t.Fatalf("%s moves the deadline to %s", b, fact.Record.Deadline)
			}
			if r.Final() && fact.Event != Removed {
				t.Fatalf("%s of %s, which is over", fact.Event, b)
			}
		}
		p.Complete(func(WindowKey, *Window) (bool, string) { return true, "" })
	})
}
