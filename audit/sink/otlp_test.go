package sink

import (
	"context"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// otlpServer takes logs by HTTP and by gRPC, and answers what a test wants.
type otlpServer struct {
	collogs.UnimplementedLogsServiceServer
	http, grpc string // addresses

	mu     sync.Mutex
	answer func(lines []string) (*collogs.ExportLogsServiceResponse, error)
	taken  []string // of entries, each once
	tokens []string
}

func newOTLPServer(t *testing.T) *otlpServer {
	s := &otlpServer{}
	h := httptest.NewServer(http.HandlerFunc(s.serveHTTP))
	t.Cleanup(h.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	collogs.RegisterLogsServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	s.http, s.grpc = h.URL, "http://"+l.Addr().String()
	return s
}

func (s *otlpServer) answers(f func([]string) (*collogs.ExportLogsServiceResponse, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *otlpServer) Export(ctx context.Context, req *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	return s.export(req, strings.Join(md.Get("authorization"), ","))
}

func (s *otlpServer) export(req *collogs.ExportLogsServiceRequest, token string) (*collogs.ExportLogsServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, r := range req.ResourceLogs {
		for _, l := range r.ScopeLogs[0].LogRecords {
			if l.EventName != "dev.breakglass.log.checkpoint" {
				lines = append(lines, l.Body.GetStringValue())
			}
		}
	}
	s.tokens = append(s.tokens, token)
	if s.answer != nil {
		if resp, err := s.answer(lines); err != nil || resp != nil {
			return resp, err
		}
	}
	for _, l := range lines {
		if !slices.Contains(s.taken, l) {
			s.taken = append(s.taken, l)
		}
	}
	return &collogs.ExportLogsServiceResponse{}, nil
}

func (s *otlpServer) serveHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var req collogs.ExportLogsServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &req)
	}
	if err != nil || r.URL.Path != "/v1/logs" {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	resp, err := s.export(&req, r.Header.Get("Authorization"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	b, err = proto.Marshal(resp)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(b)
}

func (s *otlpServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken)
}

func otlpWorlds(t *testing.T, run func(t *testing.T, s *otlpServer, w *world)) {
	for _, protocol := range []string{"HTTP", "GRPC"} {
		t.Run(protocol, func(t *testing.T) {
			s := newOTLPServer(t)
			endpoint := s.http
			if protocol == "GRPC" {
				endpoint = s.grpc
			}
			run(t, s, newWorld(t, Sink{Name: "otel", OTLP: &OTLP{Endpoint: endpoint, Protocol: protocol}}))
		})
	}
}

func partly(rejected int64) *collogs.ExportLogsServiceResponse {
	return &collogs.ExportLogsServiceResponse{PartialSuccess: &collogs.ExportLogsPartialSuccess{RejectedLogRecords: rejected, ErrorMessage: "I do not like it"}}
}

// A receiver that rejects some does not say which: none counts as taken, until the
// one that it does not like is alone.
func TestWhatAReceiverTakesInPartComesAgainUntilTheOneThatIsRejectedIsAlone(t *testing.T) {
	otlpWorlds(t, func(t *testing.T, s *otlpServer, w *world) {
		s.answers(func(lines []string) (*collogs.ExportLogsServiceResponse, error) {
			for _, l := range lines {
				if strings.Contains(l, `{"n":33}`) {
					return partly(1), nil
				}
			}
			return nil, nil
		})
		start(t, w.Options)
		add(t, w.log, "request", 0, 100)
		eventually(t, "all the others are there", func() bool { return s.count() == int(w.log.Size())-1 })
		eventually(t, "it is said", func() bool { return slices.Contains(w.states.events(), audit.SinkLost) })
		var said string
		w.states.mu.Lock()
		defer w.states.mu.Unlock()
		for _, x := range w.states.all {
			if x.Event == audit.SinkLost {
				said = x.Reason
			}
		}
		if !strings.Contains(said, "is refused") || !strings.Contains(said, "I do not like it") {
			t.Error(said)
		}
	})
}

func TestAPartialSuccessIsNoSuccess(t *testing.T) {
	otlpWorlds(t, func(t *testing.T, s *otlpServer, w *world) {
		s.answers(func(lines []string) (*collogs.ExportLogsServiceResponse, error) {
			return partly(int64(len(lines))), nil
		})
		sinks := start(t, w.Options)
		add(t, w.log, "request", 0, 50)
		eventually(t, "it was refused often", func() bool { return sinks.Status()[0].Failures > 20 })
		if n := sinks.Status()[0].Next; n != 0 {
			t.Errorf("the cursor is at %d", n)
		}
		// A warning without rejections is a success (OTLP, "Partial Success").
		s.answers(nil)
		eventually(t, "all are there", func() bool { return s.count() == int(w.log.Size()) })
	})
}

func TestHeadersAreReadForEachDelivery(t *testing.T) {
	otlpWorlds(t, func(t *testing.T, s *otlpServer, w *world) {
		file := filepath.Join(w.dir, "headers")
		w.Config.Sinks[0].OTLP.HeadersFile = file
		if err := os.WriteFile(file, []byte("# mine\nAuthorization: Bearer one\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		start(t, w.Options)
		add(t, w.log, "request", 0, 1)
		eventually(t, "it is there", func() bool { return s.count() == int(w.log.Size()) })
		if err := os.WriteFile(file, []byte("Authorization: Bearer two\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		add(t, w.log, "request", 1, 2)
		eventually(t, "it is there", func() bool { return s.count() == int(w.log.Size()) })
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.tokens[0] != "Bearer one" || s.tokens[len(s.tokens)-1] != "Bearer two" {
			t.Errorf("%v", s.tokens)
		}
	})
}

func TestAReceiverSaysByGRPCWhenToComeAgain(t *testing.T) {
	s := newOTLPServer(t)
	o := &otlpGRPC{conf: &OTLP{Endpoint: s.grpc, Protocol: "GRPC"}}
	defer o.close()
	r, err := entryRecord("log", entryOf(t, `{"n":1}`), native)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		code    codes.Code
		retry   time.Duration
		refused bool
		later   time.Duration
	}{
		"unavailable":                  {codes.Unavailable, 0, false, 0},
		"unavailable, for a second":    {codes.Unavailable, time.Second, false, time.Second},
		"invalid":                      {codes.InvalidArgument, 0, true, 0},
		"exhausted":                    {codes.ResourceExhausted, 0, true, 0},
		"exhausted, for two seconds":   {codes.ResourceExhausted, 2 * time.Second, false, 2 * time.Second},
		"no credentials":               {codes.Unauthenticated, 0, false, 0},
		"a defect":                     {codes.Internal, 0, false, 0},
		"a receiver of something else": {codes.Unimplemented, 0, false, 0},
	} {
		s.answers(func([]string) (*collogs.ExportLogsServiceResponse, error) {
			st := status.New(c.code, "no")
			if c.retry > 0 {
				st, _ = st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(c.retry)})
			}
			return nil, st.Err()
		})
		n, err := o.deliver(t.Context(), []record{r})
		if n != 0 || err == nil {
			t.Fatalf("%s: %d, %v", name, n, err)
		}
		if got := isRefused(err); got != c.refused {
			t.Errorf("%s: refused %v", name, got)
		}
		if got := laterOf(err); got != c.later {
			t.Errorf("%s: later %v", name, got)
		}
	}
}

func TestAReceiverIsTrustedByItsAuthoritiesAlone(t *testing.T) {
	s := newOTLPServer(t)
	tlsServer := httptest.NewTLSServer(http.HandlerFunc(s.serveHTTP))
	t.Cleanup(tlsServer.Close)
	tlsServer.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&tlsServer.TLS.Certificates[0])))
	collogs.RegisterLogsServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tlsServer.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for protocol, endpoint := range map[string]string{"HTTP": tlsServer.URL, "GRPC": "https://" + l.Addr().String()} {
		for _, caFile := range []string{"", ca} {
			to := newOTLP(&OTLP{Endpoint: endpoint, Protocol: protocol, CAFile: caFile}, time.Now)
			r, err := entryRecord("log", entryOf(t, `{"n":1}`), native)
			if err != nil {
				t.Fatal(err)
			}
			n, err := to.deliver(t.Context(), []record{r})
			if trusted := caFile != ""; trusted != (err == nil && n == 1) {
				t.Errorf("%s, authorities %q: %d, %v", protocol, caFile, n, err)
			}
			if err := to.close(); err != nil {
				t.Error(err)
			}
		}
	}
}
