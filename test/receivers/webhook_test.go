package receivers

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// webhook takes events by the CloudEvents SDK, of requests that the library of
// Standard Webhooks says are signed.
type webhook struct {
	*httptest.Server
	t      testing.TB
	inbox  *inbox
	secret string

	mu     sync.Mutex
	answer http.HandlerFunc
	ids    map[string]string // webhook-id, and the body it came with
}

func newSecret() string {
	var key [32]byte
	_, _ = rand.Read(key[:])
	return "whsec_" + base64.StdEncoding.EncodeToString(key[:])
}

func newWebhook(t testing.TB) *webhook {
	h := &webhook{t: t, inbox: newInbox(), secret: newSecret(), ids: map[string]string{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *webhook) answers(f http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = f
}

func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	answer, secret := h.answer, h.secret
	h.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if answer != nil {
		answer(w, r)
		return
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err == nil {
		err = verifier.Verify(body, r.Header)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var events []event.Event
	if strings.Contains(r.Header.Get("Content-Type"), "batch") {
		events, err = cehttp.NewEventsFromHTTPRequest(r)
	} else {
		var e *event.Event
		if e, err = cehttp.NewEventFromHTTPRequest(r); err == nil {
			events = append(events, *e)
		}
	}
	if err != nil {
		h.inbox.fail(err.Error())
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, e := range events {
		if err := e.Validate(); err != nil {
			h.inbox.fail(err.Error())
		}
		if want := "dev.breakglass.log."; !strings.HasPrefix(e.Type(), want) || !strings.HasPrefix(e.ID(), e.Source()+"/") {
			h.inbox.fail(fmt.Sprintf("type %s, id %s, source %s", e.Type(), e.ID(), e.Source()))
		}
		h.inbox.take(e.ID(), string(e.Data()))
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *webhook) config(t testing.TB, mode string, secrets ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(strings.Join(secrets, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("- {name: hook, cloudEvents: {url: '%s', mode: %s, secretFile: %s}}\n", h.URL, mode, file)
}

func TestAWebhookHasEachEntryOnceAndEachRequestIsSigned(t *testing.T) {
	for _, mode := range []string{"Binary", "Batch"} {
		t.Run(mode, func(t *testing.T) {
			h := newWebhook(t)
			w := newWorld(t, "sinks:\n"+h.config(t, mode, h.secret))
			w.add(1500)
			w.run()
			w.whole(h.inbox)
		})
	}
}

// While a secret is changed both sign, so that the receiver can change it first or
// last.
func TestASecretIsChangedWithoutALostEvent(t *testing.T) {
	h := newWebhook(t)
	old, next := h.secret, newSecret()
	config := h.config(t, "Binary", old, next)
	w := newWorld(t, "sinks:\n"+config)
	w.run()
	w.add(50)
	w.whole(h.inbox)
	h.mu.Lock()
	h.secret = next
	h.mu.Unlock()
	w.add(50)
	w.whole(h.inbox)
	// The old one alone is refused, and nothing is lost until the file has the new one.
	file := w.config.Sinks[0].CloudEvents.SecretFile
	if err := os.WriteFile(file, []byte(old+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := h.inbox.count()
	w.add(10)
	time.Sleep(300 * time.Millisecond) // nothing may come: there is nothing to wait for
	if n := h.inbox.count(); n != before {
		t.Errorf("%d were taken with a secret that is not its own", n-before)
	}
	if err := os.WriteFile(file, []byte(next+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.whole(h.inbox)
}

func TestAWebhookThatFailsHasEachEntryOnceAfterwards(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"500":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"429":         func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "1"); w.WriteHeader(429) },
		"it hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"400":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newWebhook(t)
			w := newWorld(t, "sinks:\n"+h.config(t, "Batch", h.secret))
			w.run()
			w.add(200)
			w.whole(h.inbox)
			h.answers(answer)
			stop := w.load(500)
			time.Sleep(outage(2 * time.Second)) // an outage has a length: it is no way to wait for something
			h.answers(nil)
			stop()
			w.whole(h.inbox)
		})
	}
}
