package conformance

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc/codes"
	"sigs.k8s.io/gateway-api/conformance/utils/grpc"
	"sigs.k8s.io/gateway-api/conformance/utils/roundtripper"
)

// How a request was sent. The summary has it for each test.
const (
	byHTTP      = "Authorization header, by the RoundTripper"
	byGRPC      = "authorization metadata, by the GRPCClient"
	byWebSocket = "Authorization header of the upgrade, by the WebSocketDialer"
	preflight   = "none: CORS preflight, as a browser sends it"
	without     = "none"
)

// roundTripper adds a token to each request but a preflight. What comes back is what the test gets, and an answer that says
// that the token was not good fails the test: in "expect a failure" it would be a pass.
type roundTripper struct {
	next   roundtripper.RoundTripper
	tokens *issuer
	seen   *record
}

func (r *roundTripper) CaptureRoundTrip(request roundtripper.Request) (*roundtripper.CapturedRequest, *roundtripper.CapturedResponse, error) {
	how := byHTTP
	switch {
	case r.tokens.none:
		how = without
	case isPreflight(request):
		how = preflight
	default:
		token, err := r.tokens.token()
		if err != nil {
			return nil, nil, err
		}
		headers := maps.Clone(request.Headers)
		if headers == nil {
			headers = map[string][]string{}
		}
		headers["Authorization"] = []string{"Bearer " + token}
		request.Headers = headers
	}
	r.seen.sent(request.T.Name(), how)
	sent, answer, err := r.next.CaptureRoundTrip(request)
	if err == nil && answer.StatusCode == http.StatusUnauthorized {
		r.refused(request, how)
	}
	return sent, answer, err
}

func (r *roundTripper) refused(request roundtripper.Request, how string) {
	r.seen.refused(request.T.Name())
	if !r.tokens.none {
		request.T.Errorf("401 for %s %s (host %q, token: %s)", request.Method, request.URL.String(), request.Host, how)
	}
}

// isPreflight: https://fetch.spec.whatwg.org/#cors-preflight-request
func isPreflight(r roundtripper.Request) bool {
	h := http.Header{}
	for name, values := range r.Headers {
		for _, v := range values {
			h.Add(name, v)
		}
	}
	return r.Method == http.MethodOptions && h.Get("Origin") != "" && h.Get("Access-Control-Request-Method") != ""
}

// grpcClient opens a connection for each call: the suite's client fixes the authority for each connection, and is called
// by several at a time.
type grpcClient struct {
	tokens *issuer
	seen   *record
}

func (g *grpcClient) SendRPC(t *testing.T, address string, expected grpc.ExpectedResponse, timeout time.Duration) (*grpc.Response, error) {
	how := without
	if !g.tokens.none {
		how = byGRPC
		token, err := g.tokens.token()
		if err != nil {
			return nil, err
		}
		var request grpc.RequestMetadata
		if expected.RequestMetadata != nil {
			request = *expected.RequestMetadata
		}
		request.Metadata = maps.Clone(request.Metadata)
		if request.Metadata == nil {
			request.Metadata = map[string]string{}
		}
		request.Metadata["authorization"] = "Bearer " + token
		expected.RequestMetadata = &request
	}
	g.seen.sent(t.Name(), how)
	client := &grpc.DefaultClient{}
	defer client.Close()
	answer, err := client.SendRPC(t, address, expected, timeout)
	if err == nil && answer.Code == codes.Unauthenticated {
		g.seen.refused(t.Name())
		if !g.tokens.none {
			t.Errorf("UNAUTHENTICATED from the Gateway %s", address)
		}
	}
	return answer, err
}

func (g *grpcClient) Close() {}

// webSocketDialer has no test to tell of a 401, and what the suite does with an error is to try again. So it remembers: who
// met a 401 gets nothing but that any more, and fails.
type webSocketDialer struct {
	tokens *issuer
	seen   *record

	mu  sync.Mutex
	met map[string]error
}

func (w *webSocketDialer) Dial(location, protocol, origin string) (*websocket.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.met[origin]; err != nil {
		return nil, err
	}
	config, err := websocket.NewConfig(location, origin)
	if err != nil {
		return nil, err
	}
	if protocol != "" {
		config.Protocol = []string{protocol}
	}
	how := without
	if !w.tokens.none {
		how = byWebSocket
		token, err := w.tokens.token()
		if err != nil {
			return nil, err
		}
		config.Header.Set("Authorization", "Bearer "+token)
	}
	// The suite's origin is ws://gateway/ and the name of the test.
	test := strings.TrimPrefix(config.Origin.Path, "/")
	w.seen.sent(test, how)
	conn, err := net.Dial("tcp", config.Location.Host)
	if err != nil {
		return nil, err
	}
	first := &firstRead{Conn: conn}
	socket, err := websocket.NewClient(config, first)
	if err == nil {
		return socket, nil
	}
	conn.Close()
	if status := strings.Fields(first.text); len(status) > 1 && status[1] == "401" {
		err = fmt.Errorf("401 for %s: %w", location, err)
		w.seen.refused(test)
		w.met[origin] = err
	}
	return nil, err
}

// firstRead remembers what was read first: the beginning of an answer.
type firstRead struct {
	net.Conn
	text string
}

func (f *firstRead) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if f.text == "" {
		f.text = string(p[:n])
	}
	return n, err
}
