package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// notebook is a Backend that remembers what it was asked for.
type notebook struct {
	activated []v1alpha1.Activation
	revoked   []RevokeRequest
	reviewed  []ReviewRequest
	since     []time.Time
}

func (n *notebook) Objects(context.Context) (*Objects, error) { return &Objects{}, nil }

func (n *notebook) Activate(_ context.Context, r ActivateRequest, _ Peer) (*v1alpha1.Activation, error) {
	n.activated = append(n.activated, r.Activation)
	return &r.Activation, nil
}

func (n *notebook) Activation(_ context.Context, key types.NamespacedName) (*v1alpha1.Activation, error) {
	a := &v1alpha1.Activation{}
	a.Namespace, a.Name = key.Namespace, key.Name
	return a, nil
}

func (n *notebook) Wait(ctx context.Context, key types.NamespacedName, _ func(*v1alpha1.Activation) bool) (*v1alpha1.Activation, error) {
	return n.Activation(ctx, key)
}

func (n *notebook) Revoke(_ context.Context, r RevokeRequest, _ Peer) ([]v1alpha1.Activation, error) {
	n.revoked = append(n.revoked, r)
	return nil, nil
}

func (n *notebook) Review(_ context.Context, r ReviewRequest, _ Peer) (*v1alpha1.Activation, error) {
	n.reviewed = append(n.reviewed, r)
	return &v1alpha1.Activation{}, nil
}

func (n *notebook) Status(context.Context) (*Status, error) { return &Status{}, nil }

func (n *notebook) Timeline(_ context.Context, since time.Time, _ func(TimelineEntry) error) error {
	n.since = append(n.since, since)
	return nil
}

// recorder takes the write deadlines that a connection takes.
type recorder struct{ *httptest.ResponseRecorder }

func (recorder) SetWriteDeadline(time.Time) error { return nil }

// FuzzRequest: whatever is sent to the socket, the answer is JSON, and what
// reaches the backend is a wish and nothing more: nobody says who he is, that it
// is revoked already or how it went; and what is to be closed is said in one way.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"activation":{"metadata":{"name":"a","namespace":"n","labels":{"x":"y"}},"spec":{"role":"db","requestedBy":"root","revokedBy":"root","targetRefs":[{"name":"r"}],"duration":"5m"},"status":{"phase":"Live"}}}`,
		`{"activation":{"metadata":{"name":"a","namespace":"n"},"spec":{"revoked":true}}}`,
		`{"activation":{"metadata":{"name":"a","namespace":"n"},"SPEC":{"notAfter":"2026-11-25T00:00:00Z"},"spec":{"role":"x"}}} `,
		`{"names":[{"Namespace":"a","Name":"b"}],"reason":"done"}`, `{"all":true,"namespace":"n"}`, `{"all":true,"names":[{}]}`, `{"all":false,"All":true}`, `{} {}`, `null`, `[`,
	} {
		f.Add(uint8(0), "/v1/activations", []byte(body))
		f.Add(uint8(0), "/v1/revoke", []byte(body))
	}
	for _, body := range []string{
		`{"name":{"Namespace":"a","Name":"b"},"verdict":"Drill","note":"n","followUps":["x"]}`, `{"name":{"Namespace":"a","Name":"b"},"verdict":"drill","note":" "}`,
		`{"name":{"Namespace":"a","Name":"b"},"verdict":"Misuse","note":"n","by":"root"}`,
	} {
		f.Add(uint8(0), "/v1/review", []byte(body))
	}
	f.Add(uint8(1), "/v1/timeline?since=2026-11-25T00:00:00.5Z", []byte(nil))
	f.Add(uint8(1), "/v1/activations/a/b%2fc?seen=x&wait=-1ns", []byte(nil))
	f.Add(uint8(1), "/v1/activations/a/../../status?wait=1h", []byte(nil))
	known := newNames()
	f.Fuzz(func(t *testing.T, method uint8, path string, body []byte) {
		r, err := http.NewRequest([]string{"POST", "GET", "DELETE"}[method%3], "http://breakglass"+path, bytes.NewReader(body))
		if err != nil {
			return
		}
		n := &notebook{}
		s := &Server{backend: n, names: known, maxWait: time.Millisecond}
		w := recorder{httptest.NewRecorder()}
		s.routes().ServeHTTP(w, r.WithContext(context.WithValue(t.Context(), peerKey{}, &caller{})))
		if redirect := w.Code >= 300 && w.Code < 400; !redirect && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d: %q", w.Code, w.Body)
		}
		if asked := len(n.activated) + len(n.revoked) + len(n.reviewed) + len(n.since); asked > 1 || asked == 1 && w.Code >= 300 {
			t.Fatalf("%d and %+v", w.Code, n)
		}
		for _, a := range n.activated {
			if a.Name == "" || a.Namespace == "" || a.Spec.Revoked || a.Spec.RequestedBy != "" || a.Spec.RevokedBy != "" || len(a.Labels)+len(a.Annotations)+len(a.OwnerReferences) > 0 ||
				!a.CreationTimestamp.IsZero() || !reflect.DeepEqual(a.Status, v1alpha1.ActivationStatus{}) {
				t.Fatalf("%+v", a)
			}
		}
		for _, r := range n.reviewed {
			if r.Name.Name == "" || r.Name.Namespace == "" || len(r.Problems()) > 0 {
				t.Fatalf("%+v", r)
			}
		}
		for _, r := range n.revoked {
			if r.All == (len(r.Names) > 0) || r.Namespace != "" && !r.All {
				t.Fatalf("%+v", r)
			}
		}
	})
}
