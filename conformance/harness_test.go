package conformance

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/roundtripper"
)

// What the harness itself promises. These need no cluster.

func authorized(people *issuer, seen *record) *roundTripper {
	return &roundTripper{next: &roundtripper.DefaultRoundTripper{TimeoutConfig: config.DefaultTimeoutConfig()}, tokens: people, seen: seen}
}

func request(t *testing.T, location, method string, headers map[string][]string) roundtripper.Request {
	u, err := url.Parse(location)
	require.NoError(t, err)
	return roundtripper.Request{T: t, URL: *u, Method: method, Headers: headers, Protocol: "HTTP"}
}

func TestEachRequestHasATokenOfItsOwnButAPreflightHasNone(t *testing.T) {
	people, seen := newIssuer(t), &record{tests: map[string]*happened{}}
	var tokens []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization"))
	}))
	defer server.Close()
	headers := map[string][]string{"X-Mine": {"1"}}
	preflight := map[string][]string{"Origin": {"https://foo.example"}, "Access-Control-Request-Method": {"GET"}}
	for _, r := range []roundtripper.Request{
		request(t, server.URL, "GET", headers), request(t, server.URL, "OPTIONS", preflight), request(t, server.URL, "OPTIONS", headers),
	} {
		_, answer, err := authorized(people, seen).CaptureRoundTrip(r)
		require.NoError(t, err)
		require.Equal(t, 200, answer.StatusCode)
	}
	require.Len(t, tokens, 3)
	require.Empty(t, tokens[1], "a preflight")
	require.NotContains(t, headers, "Authorization", "what belongs to the test")
	for _, i := range []int{0, 2} {
		token, err := jwt.ParseSigned(strings.TrimPrefix(tokens[i], "Bearer "), []jose.SignatureAlgorithm{jose.ES256})
		require.NoError(t, err)
		var claims jwt.Claims
		require.NoError(t, token.Claims(&people.key.PublicKey, &claims))
		require.Equal(t, tokenLifetime, claims.Expiry.Time().Sub(claims.IssuedAt.Time()))
	}
	require.Equal(t, map[string]int{byHTTP: 2, "none: CORS preflight, as a browser sends it": 1}, seen.of(t.Name()).Sent)
}

// Run by the next test, in a process of its own: it has to fail.
func TestMeets401(t *testing.T) {
	location := os.Getenv("CONFORMANCE_401")
	if location == "" {
		return
	}
	_, answer, err := authorized(newIssuer(t), happening).CaptureRoundTrip(request(t, location, "GET", nil))
	require.NoError(t, err)
	require.Equal(t, 401, answer.StatusCode, "the answer is what the test gets")
}

func TestA401FailsTheTestThatMeetsIt(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer server.Close()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestMeets401$", "-test.v")
	cmd.Env = append(os.Environ(), "CONFORMANCE_401="+server.URL)
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "%s", out)
	require.Contains(t, string(out), "--- FAIL: TestMeets401")
	require.Contains(t, string(out), "401 for GET "+server.URL)
}

func TestAWebSocketThatMetA401GetsNothingElseAnyMore(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	seen := &record{tests: map[string]*happened{}}
	dialer := &webSocketDialer{tokens: newIssuer(t), seen: seen, met: map[string]error{}}
	for range 2 {
		_, err := dialer.Dial(strings.Replace(server.URL, "http", "ws", 1)+"/ws", "", "ws://gateway/TestConformance/Socket/case")
		require.ErrorContains(t, err, "401 for ws://")
	}
	require.EqualValues(t, 1, asked.Load())
	require.Equal(t, &happened{Name: "Socket", Sent: map[string]int{byWebSocket: 1}, Refused: 1}, seen.of("TestConformance/Socket"))
}

func TestALockedRunIsGoodIfWhateverSendsTrafficFails(t *testing.T) {
	sends := map[string]int{without: 1}
	for name, c := range map[string]struct {
		tests  []*happened
		open   []string
		closed int
		fails  bool
	}{
		"all fail":              {[]*happened{{Name: "a", Result: failed, Sent: sends}, {Name: "status", Result: passed}}, nil, 1, false},
		"one passes":            {[]*happened{{Name: "a", Result: failed, Sent: sends}, {Name: "b", Result: passed, Sent: sends}}, []string{"b"}, 1, false},
		"nothing ran":           {nil, nil, 0, true},
		"status alone was read": {[]*happened{{Name: "status", Result: passed}}, nil, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &record{tests: map[string]*happened{}}
			for _, h := range c.tests {
				r.tests[h.Name] = h
			}
			open, closed, err := r.locks("")
			require.Equal(t, c.fails, err != nil)
			require.Equal(t, c.open, open)
			require.Equal(t, c.closed, closed)
		})
	}
	t.Run("one did not run that sent traffic in another run", func(t *testing.T) {
		other := t.TempDir() + "/tests.json"
		require.NoError(t, os.WriteFile(other, []byte(`[{"name":"a","sent":{"x":1}},{"name":"b","sent":{"x":1}},{"name":"status"}]`), 0o600))
		r := &record{tests: map[string]*happened{"a": {Name: "a", Result: failed, Sent: sends}}}
		open, closed, err := r.locks(other)
		require.NoError(t, err)
		require.Equal(t, []string{"b"}, open)
		require.Equal(t, 1, closed)
	})
}
