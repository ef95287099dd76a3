package intent

import (
	"context"
	"log/slog"
	"sync/atomic"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// Sink makes intents durable, all or none, or says why they are not.
type Sink interface {
	Intend(context.Context, ...audit.RequestEntry) error
}

// Server answers the questions of Envoys.
type Server struct {
	sink Sink
	log  *slog.Logger

	kept, refused atomic.Uint64
	failing       atomic.Bool
}

// New returns a server that keeps intents in sink.
func New(sink Sink, log *slog.Logger) *Server { return &Server{sink: sink, log: log} }

// Stats are counts since the start, for metrics.
type Stats struct {
	Kept    uint64 // durable
	Refused uint64 // not, so that the request was answered with 503
}

// Stats returns the present counts.
func (s *Server) Stats() Stats { return Stats{Kept: s.kept.Load(), Refused: s.refused.Load()} }

// Register adds the service to g.
func (s *Server) Register(g *grpc.Server) {
	// Not the generated registration: its handler decodes within gRPC, which refuses a
	// string that is not UTF-8, and what is of use in a question is found in a fifth
	// of the time.
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Check", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var raw emptypb.Empty // it keeps fields it does not know, that is all of them, as bytes
			if err := decode(&raw); err != nil {
				return nil, err
			}
			return s.check(ctx, raw.ProtoReflect().GetUnknown())
		}}},
		Metadata: authv3.Authorization_ServiceDesc.Metadata,
	}, s)
}

// yes is a CheckResponse without a status, that is with status OK.
var yes = &emptypb.Empty{}

// check answers when the intent that a message asks for is durable. ctx ends when Envoy
// has given up.
func (s *Server) check(ctx context.Context, message []byte) (any, error) {
	epoch := ""
	if md := metadata.ValueFromIncomingContext(ctx, EpochMetadata); len(md) > 0 {
		epoch = md[0]
	}
	e, err := read(epoch, message)
	if err == nil {
		err = s.sink.Intend(ctx, e)
	}
	if err != nil {
		s.refused.Add(1)
		if !s.failing.Swap(true) {
			s.log.Error("intents of requests cannot be kept: requests under a Strict policy are refused", "error", err)
		}
		return nil, status.Error(codes.Unavailable, "the intent is not durable")
	}
	s.kept.Add(1)
	if s.failing.Load() && s.failing.Swap(false) {
		s.log.Info("intents of requests are kept again")
	}
	return yes, nil
}
