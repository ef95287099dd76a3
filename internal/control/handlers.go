package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/activations/{namespace}/{name}", s.activation)
	mux.HandleFunc("POST /v1/activations", s.activate)
	mux.HandleFunc("POST /v1/revoke", s.revoke)
	mux.HandleFunc("POST /v1/review", s.review)
	mux.HandleFunc("GET /v1/timeline", s.timeline)
	mux.HandleFunc("GET /v1/objects", s.objects)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, Errorf(UnknownEndpoint, "the running serve does not know %s %s: use the CLI of its version", r.Method, r.URL.Path))
	})
	return mux
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	st, err := s.backend.Status(r.Context())
	if err == nil {
		st = withoutNull(st)
	}
	answer(w, http.StatusOK, st, err)
}

// withoutNull makes empty lists of nil ones, so that what reads the JSON can
// count on lists.
func withoutNull(st *Status) *Status {
	out := *st
	out.Gateways = append([]GatewayStatus{}, st.Gateways...)
	out.Routes = append([]RouteStatus{}, st.Routes...)
	out.Activations = append([]v1alpha1.Activation{}, st.Activations...)
	out.Policies = append([]PolicyStatus{}, st.Policies...)
	out.Problems = append([]Problem{}, st.Problems...)
	return &out
}

func (s *Server) objects(w http.ResponseWriter, r *http.Request) {
	list, err := s.backend.Objects(r.Context())
	answer(w, http.StatusOK, list, err)
}

func (s *Server) activate(w http.ResponseWriter, r *http.Request) {
	var req ActivateRequest
	if err := decode(r.Body, &req); err != nil {
		writeError(w, err)
		return
	}
	if req.Activation.Spec.Revoked {
		writeError(w, InvalidError("the activation is not valid", "spec.revoked: an activation cannot begin as revoked: leave it out"))
		return
	}
	if req.Activation.Name == "" || req.Activation.Namespace == "" {
		writeError(w, InvalidError("the activation is not valid", "metadata: name and namespace are required"))
		return
	}
	req.Activation = claimed(&req.Activation)
	a, err := s.backend.Activate(r.Context(), req, s.peer(r))
	answer(w, http.StatusCreated, a, err)
}

// claimed is what a client may say of an activation: its name and what it asks
// for. Who asks and how it went is not for the client to say.
func claimed(a *v1alpha1.Activation) v1alpha1.Activation {
	out := v1alpha1.Activation{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Activation"},
		ObjectMeta: metav1.ObjectMeta{Namespace: a.Namespace, Name: a.Name},
		Spec:       *a.Spec.DeepCopy(),
	}
	out.Spec.RequestedBy, out.Spec.RevokedBy = "", ""
	return out
}

// activation answers at once, or, with ?seen, once there is news.
func (s *Server) activation(w http.ResponseWriter, r *http.Request) {
	key := types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	seen, wait, err := pollOf(r, s.maxWait)
	if err != nil {
		writeError(w, err)
		return
	}
	var a *v1alpha1.Activation
	if seen != "" && wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		a, err = s.backend.Wait(ctx, key, func(a *v1alpha1.Activation) bool { return etag(a) != seen })
		if err != nil && ctx.Err() != nil && r.Context().Err() == nil {
			a, err = s.backend.Activation(r.Context(), key) // no news in time
		}
	} else {
		a, err = s.backend.Activation(r.Context(), key)
	}
	if err == nil {
		w.Header().Set("ETag", etag(a))
	}
	answer(w, http.StatusOK, a, err)
}

func pollOf(r *http.Request, longest time.Duration) (seen string, wait time.Duration, err error) {
	q := r.URL.Query()
	if v := q.Get("wait"); v != "" {
		if wait, err = time.ParseDuration(v); err != nil {
			return "", 0, InvalidError("the request is not valid", fmt.Sprintf("wait: %q is not a duration such as 25s", v))
		}
	}
	return q.Get("seen"), min(wait, longest), nil
}

// etag changes whenever there is something new to tell of an activation.
func etag(a *v1alpha1.Activation) string {
	b, err := json.Marshal(struct {
		Revoked bool
		Status  v1alpha1.ActivationStatus
	}{a.Spec.Revoked, a.Status})
	if err != nil {
		panic(err) // plain data: it cannot fail
	}
	sum := sha256.Sum256(b)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	var req RevokeRequest
	if err := decode(r.Body, &req); err != nil {
		writeError(w, err)
		return
	}
	if req.All == (len(req.Names) > 0) || (req.Namespace != "" && !req.All) {
		writeError(w, InvalidError("the request is not valid", "name the activations to revoke, or set all: one of the two"))
		return
	}
	ended, err := s.backend.Revoke(r.Context(), req, s.peer(r))
	if ended == nil {
		ended = []v1alpha1.Activation{}
	}
	answer(w, http.StatusOK, ended, err)
}

func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	var req ReviewRequest
	err := decode(r.Body, &req)
	if err == nil && (req.Name.Name == "" || req.Name.Namespace == "") {
		err = InvalidError("the review is not valid", "name: the namespace and the name of the activation are required")
	}
	if problems := req.Problems(); err == nil && len(problems) > 0 {
		err = InvalidError("the review is not valid", problems...)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	a, err := s.backend.Review(r.Context(), req, s.peer(r))
	answer(w, http.StatusOK, a, err)
}

// timelineLine is one line of the answer; exactly one field is set.
type timelineLine struct {
	Entry *TimelineEntry `json:"entry,omitempty"`
	Error *Error         `json:"error,omitempty"`
	End   bool           `json:"end,omitempty"`
}

func (s *Server) timeline(w http.ResponseWriter, r *http.Request) {
	var since time.Time
	if v := r.URL.Query().Get("since"); v != "" {
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			writeError(w, InvalidError("the request is not valid", fmt.Sprintf("since: %q is not an RFC 3339 time", v)))
			return
		}
		since = t
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc, enc, lines := http.NewResponseController(w), json.NewEncoder(w), 0
	send := func(l timelineLine) error {
		// A reader that stops reading must not hold the journal's reader for ever.
		if err := rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		lines++
		return enc.Encode(l)
	}
	err := s.backend.Timeline(r.Context(), since, func(e TimelineEntry) error { return send(timelineLine{Entry: &e}) })
	switch {
	case err != nil && lines == 0:
		writeError(w, err)
	case err != nil:
		_ = send(timelineLine{Error: asError(err)}) // the caller sees the missing end either way
	default:
		_ = send(timelineLine{End: true})
	}
	// A deadline that stays would end the next answer on this connection.
	_ = rc.SetWriteDeadline(time.Time{})
}

// decode reads one JSON value and nothing after it. A field that is not known is
// an error: it would be a wish that nobody heard.
func decode(body io.Reader, into any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one JSON value")
		}
	}
	if err != nil {
		return InvalidError("the request is not valid", err.Error())
	}
	return nil
}

func answer(w http.ResponseWriter, code int, v any, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, code, v)
}

func writeError(w http.ResponseWriter, err error) {
	e := asError(err)
	code := httpCodes[e.Code]
	if code == 0 {
		code = http.StatusInternalServerError
	}
	writeJSON(w, code, map[string]*Error{"error": e})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the caller is gone: nobody is left to tell
}
