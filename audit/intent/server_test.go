package intent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// keeper is a Sink.
type keeper struct {
	mu      sync.Mutex
	entries []audit.RequestEntry
	err     error
}

func (k *keeper) Intend(_ context.Context, e ...audit.RequestEntry) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.entries = append(k.entries, e...)
	}
	return k.err
}

func (k *keeper) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// asking is a client of a server with that sink, until the test ends.
func asking(t testing.TB, sink Sink) (authv3.AuthorizationClient, *Server) {
	path := filepath.Join(t.TempDir(), "intent.sock")
	sock, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, g := New(sink, slog.New(slog.DiscardHandler)), grpc.NewServer()
	s.Register(g)
	go func() { _ = g.Serve(sock) }() // ends with Stop
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close() // nothing is under way
		g.Stop()
	})
	return authv3.NewAuthorizationClient(conn), s
}

func TestTheAnswerIsYesOnlyWhenTheIntentIsKept(t *testing.T) {
	k := &keeper{}
	client, s := asking(t, k)
	ctx := metadata.AppendToOutgoingContext(t.Context(), EpochMetadata, "e-1")
	ask := func(q *authv3.CheckRequest) (bool, codes.Code) {
		r, err := client.Check(ctx, q)
		return err == nil && r.GetStatus().GetCode() == 0 && r.GetHttpResponse() == nil, status.Code(err)
	}
	if got, code := ask(checkRequest(t)); !got || len(k.entries) != 1 || k.entries[0].Key != "6f1c" || k.entries[0].Epoch != "e-1" {
		t.Errorf("%v %v %+v", got, code, k.entries)
	}
	k.fail(errors.New("the disk is full of secrets"))
	if got, code := ask(checkRequest(t)); got || code != codes.Unavailable {
		t.Errorf("not kept, and yes: %v %v", got, code)
	}
	k.fail(nil)
	if got, code := ask(&authv3.CheckRequest{}); got || code != codes.Unavailable {
		t.Errorf("of nothing, and yes: %v %v", got, code)
	}
	if got, _ := ask(checkRequest(t)); !got {
		t.Error("the disk has room again, and no")
	}
	if got := s.Stats(); got != (Stats{Kept: 2, Refused: 2}) {
		t.Errorf("%+v", got)
	}
}

func TestManyQuestionsAtOnceAreEachAnswered(t *testing.T) {
	k := &keeper{}
	client, s := asking(t, k)
	var wg sync.WaitGroup
	const callers, each = 50, 20
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				q := checkRequest(t)
				q.Attributes.Request.Http.Headers["x-request-id"] = fmt.Sprint(c, "/", i)
				q.Attributes.Request.Http.Path = "/" + strings.Repeat("a", 40<<10)
				if r, err := client.Check(t.Context(), q); err != nil || r.GetStatus().GetCode() != 0 {
					t.Errorf("%v %v", r, err)
				}
			}
		})
	}
	wg.Wait()
	keys := map[string]bool{}
	for _, e := range k.entries {
		keys[e.Key] = true
	}
	if len(keys) != callers*each || s.Stats().Kept != callers*each {
		t.Errorf("%d of %d are kept, %+v", len(keys), callers*each, s.Stats())
	}
}

// BenchmarkQuestion is what a question costs over the socket, half of it for a client
// in Go, with a sink that keeps nothing.
func BenchmarkQuestion(b *testing.B) {
	client, _ := asking(b, nothing{})
	for q := checkRequest(b); b.Loop(); {
		if _, err := client.Check(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
}

type nothing struct{}

func (nothing) Intend(context.Context, ...audit.RequestEntry) error { return nil }
