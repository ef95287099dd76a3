package jwks

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// serve answers over TLS on loopback, and returns a Source that may ask it.
func serve(t *testing.T, answer http.HandlerFunc) (Source, *httptest.Server) {
	t.Helper()
	srv := httptest.NewUnstartedServer(answer)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	return Source{RemoteJWKS: v1alpha1.RemoteJWKS{URI: srv.URL + "/keys?secret=hunter2", CACertificates: &ca, AllowLocalTargets: true}}, srv
}

func answering(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
}

func duration(s string) *gwv1.Duration {
	d := gwv1.Duration(s)
	return &d
}

func TestFetchReturnsTheKeySet(t *testing.T) {
	body := document(t, member(t, "p256", nil))
	src, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/keys" || r.Header.Get("Authorization") != "" {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		_, _ = w.Write(body)
	})
	// Neither is asked: the first would answer, the second would be dialled.
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("NO_PROXY", "")
	set, raw, err := Fetch(t.Context(), src)
	if err != nil || string(raw) != string(body) || len(set.Keys()) != 1 {
		t.Fatalf("got %v", err)
	}
}

func TestFetchRefuses(t *testing.T) {
	good := document(t, member(t, "p256", nil))
	elsewhere, _ := serve(t, answering(good))
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	plain := httptest.NewServer(answering(good))
	t.Cleanup(plain.Close)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		change func(*Source)
		want   string
	}{
		"a redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URI, http.StatusFound) }, nil, "answered 302, a redirect"},
		"a permanent redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URI, http.StatusPermanentRedirect)
		}, nil, "answered 308, a redirect"},
		"an error":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); _, _ = w.Write(good) }, nil, "answered 503"},
		"not found":     {http.NotFound, nil, "answered 404"},
		"garbage":       {answering([]byte("<html>hunter3")), nil, "not JSON"},
		"no keys":       {answering([]byte(`{"keys":[]}`)), nil, "empty"},
		"a private key": {answering(document(t, member(t, "p256", map[string]any{"d": "hunter3"}))), nil, "publish only the public half"},
		"too large":     {answering(append(good, []byte(strings.Repeat(" ", MaxBytes))...)), nil, "larger than 64 KiB"},
		"large headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 32<<10)) }, nil, "exceeded"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9999")
			_, _ = w.Write(good)
		}, nil, "EOF"},
		"hanging":               {hang, func(s *Source) { s.Timeout = duration("100ms") }, "no complete answer within 100ms"},
		"slow":                  {drip, func(s *Source) { s.Timeout = duration("100ms") }, "no complete answer within 100ms"},
		"a CA that is unknown":  {answering(good), func(s *Source) { s.CACertificates = nil }, "set jwks.remote.caCertificates"},
		"a CA that is no PEM":   {answering(good), func(s *Source) { s.CACertificates = new(string) }, "holds no certificate"},
		"another name":          {answering(good), func(s *Source) { s.URI = strings.Replace(s.URI, "127.0.0.1", "localhost", 1) }, "certificate must be valid for the host"},
		"loopback":              {answering(good), func(s *Source) { s.AllowLocalTargets = false }, "127.0.0.1 is a local address"},
		"a name of loopback":    {answering(good), localName, "is a local address"},
		"http":                  {nil, func(s *Source) { s.URI = plain.URL + "/keys?secret=hunter2" }, "must be https://"},
		"no TLS behind https":   {nil, func(s *Source) { s.URI = "https" + strings.TrimPrefix(plain.URL, "http") }, "does not speak TLS"},
		"a user name":           {nil, func(s *Source) { s.URI = "https://hunter2:hunter2@127.0.0.1/" }, "without a user name"},
		"not a URI":             {nil, func(s *Source) { s.URI = "https://hunter2\x7f" }, "not a URI"},
		"a host that is nobody": {nil, func(s *Source) { s.URI = "https://none.invalid/" }, "this host's DNS"},
	} {
		t.Run(name, func(t *testing.T) {
			src, _ := serve(t, c.answer)
			if c.change != nil {
				c.change(&src)
			}
			set, body, err := Fetch(t.Context(), src)
			if err == nil || set != nil || body != nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter") {
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
}

// drip never ends, though every byte comes soon.
func drip(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		_, _ = w.Write([]byte(" "))
		w.(http.Flusher).Flush()
	}
}

func localName(s *Source) {
	u, err := url.Parse(s.URI)
	if err != nil {
		panic(err)
	}
	s.URI, s.AllowLocalTargets = "https://localhost:"+u.Port()+"/keys", false
}

func TestFetchDoesNotSpeakOldTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(answering(document(t, member(t, "p256", nil))))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	if _, _, err := Fetch(t.Context(), Source{RemoteJWKS: v1alpha1.RemoteJWKS{URI: srv.URL, AllowLocalTargets: true}}); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Fatalf("got %v", err)
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	src, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Fetch(ctx, src); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestLocalTargetsAreRefused(t *testing.T) {
	for _, a := range []string{
		"127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "169.254.0.1",
		"fe80::1", "fe80::1%eth0", "febf::1", "224.0.0.1", "239.1.1.1", "ff02::1", "ff0e::1", "255.255.255.255",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1",
		"2002:7f00:1::", "2002:a9fe:a9fe::1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
	} {
		if err := controlDial("tcp", net.JoinHostPort(a, "443"), nil); !errors.Is(err, errLocalTarget) {
			t.Errorf("%s: got %v", a, err)
		}
	}
	for _, a := range []string{"10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "8.8.8.8", "2001:db8::1", "fd12::1", "64:ff9b::8.8.8.8"} {
		if err := controlDial("tcp", net.JoinHostPort(a, "443"), nil); err != nil {
			t.Errorf("%s: got %v", a, err)
		}
	}
	if controlDial("tcp", "rubbish", nil) == nil || publicTarget(netip.Addr{}) {
		t.Error("what is no address was let through")
	}
}

func TestTheAddressThatIsDialledIsJudged(t *testing.T) {
	// Whatever the name resolved to before: the transport has its own dialer, and
	// each of its connections is judged.
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]", "0", "2130706433", "127.1"} {
		_, _, err := Fetch(t.Context(), Source{RemoteJWKS: v1alpha1.RemoteJWKS{URI: fmt.Sprintf("https://%s:1/", host)}})
		if err == nil || !strings.Contains(err.Error(), "a local address") && !strings.Contains(err.Error(), "DNS") {
			t.Errorf("%s: got %v", host, err)
		}
	}
}
