package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// IntentSink makes an intent durable, or says why it is not.
type IntentSink interface {
	Intend(context.Context, RequestEntry) error
}

// Intents is the external authorization service of Envoy
// (envoy.service.auth.v3.Authorization), which says yes once the intent of a request
// is durable, and never says anything else. What it is asked is made by
// translator/lock.
type Intents struct {
	sink  IntentSink
	epoch string // name of the gRPC metadata
	log   *slog.Logger

	kept, refused atomic.Uint64
	failing       atomic.Bool
}

// NewIntents returns a service that keeps intents in sink. epoch names the gRPC
// metadata that carries Envoy's.
func NewIntents(sink IntentSink, epoch string, log *slog.Logger) *Intents {
	return &Intents{sink: sink, epoch: epoch, log: log}
}

// IntentStats are counts since the start, for metrics.
type IntentStats struct {
	Kept    uint64 // durable
	Refused uint64 // not, so that the request was answered with 503
}

// Stats returns the present counts.
func (i *Intents) Stats() IntentStats {
	return IntentStats{Kept: i.kept.Load(), Refused: i.refused.Load()}
}

// Register adds the service to s.
func (i *Intents) Register(s *grpc.Server) {
	// Not the generated registration, for the reason that Receiver.Register has, and
	// because what is of use in a message is found in a fifth of the time.
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Check", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var raw emptypb.Empty
			if err := decode(&raw); err != nil {
				return nil, err
			}
			return i.check(ctx, raw.ProtoReflect().GetUnknown())
		}}},
		Metadata: authv3.Authorization_ServiceDesc.Metadata,
	}, i)
}

// yes is a CheckResponse without a status, that is with status OK.
var yes = &emptypb.Empty{}

func (i *Intents) check(ctx context.Context, message []byte) (any, error) {
	e, err := intentOf(message)
	if err == nil {
		if md, _ := metadata.FromIncomingContext(ctx); len(md[i.epoch]) > 0 {
			e.Epoch = word(md[i.epoch][0])
		}
		err = i.sink.Intend(ctx, e)
	}
	if err != nil {
		i.refused.Add(1)
		if !i.failing.Swap(true) {
			i.log.Error("intents of requests cannot be kept: requests under a Strict policy are refused", "error", err)
		}
		return nil, status.Error(codes.Unavailable, "the intent is not durable")
	}
	i.kept.Add(1)
	if i.failing.Load() && i.failing.Swap(false) {
		i.log.Info("intents of requests are kept again")
	}
	return yes, nil
}

var errIntent = errors.New("not a question of Envoy's for an intent")

// Numbers of fields, in the messages below envoy.service.auth.v3.CheckRequest.
const (
	fieldAttributes protowire.Number = 1 // CheckRequest

	fieldSource        protowire.Number = 1 // AttributeContext
	fieldRequest       protowire.Number = 4
	fieldMetadata      protowire.Number = 11
	fieldRouteMetadata protowire.Number = 13

	fieldTime protowire.Number = 1 // AttributeContext.Request
	fieldHTTP protowire.Number = 2

	fieldMethod  protowire.Number = 2 // AttributeContext.HttpRequest
	fieldHeaders protowire.Number = 3
	fieldPath    protowire.Number = 4
	fieldHost    protowire.Number = 5
)

const requestID = "x-request-id"

// intentOf reads a CheckRequest. Strings need not be UTF-8. It is an error when it
// does not say which request it is of and what was open for it: only what has passed
// our locks comes here.
func intentOf(message []byte) (RequestEntry, error) {
	row := RequestRow{Type: TypeIntent}
	err := each(message, func(n protowire.Number, v wire) error {
		if n != fieldAttributes {
			return nil
		}
		return each(v.bytes, func(n protowire.Number, v wire) error {
			switch n {
			case fieldSource:
				return v.at(func(v wire) { row.ClientAddress = socketAddress(v) }, 1, 1)
			case fieldRequest:
				return row.takeRequest(v.bytes)
			case fieldMetadata:
				return ofNamespace(v.bytes, jwtNamespace, func(key string, v wire) error {
					if key == "jwt" {
						return v.fields(row.takeClaim)
					}
					return nil
				})
			case fieldRouteMetadata:
				return ofNamespace(v.bytes, routeNamespace, row.takeRoute)
			}
			return nil
		})
	})
	if err != nil {
		return RequestEntry{}, err
	}
	if row.StreamID == "" || row.Opening == "" || row.Issuer == "" || row.Start.IsZero() {
		return RequestEntry{}, fmt.Errorf("%w: it lacks the id of the request, its time, its opening or who asks", errIntent)
	}
	return row.Entry(), nil
}

// routeNamespace is that of the metadata which translator/lock gives to a route.
const routeNamespace = "breakglass.dev"

func (row *RequestRow) takeRequest(b []byte) error {
	return each(b, func(n protowire.Number, v wire) error {
		switch n {
		case fieldTime:
			var seconds, nanos int64
			err := each(v.bytes, func(n protowire.Number, v wire) error {
				switch n {
				case 1:
					seconds = int64(v.number)
				case 2:
					nanos = int64(v.number)
				}
				return nil
			})
			row.Start = time.Unix(seconds, nanos)
			return err
		case fieldHTTP:
			return each(v.bytes, row.takeHTTP)
		}
		return nil
	})
}

func (row *RequestRow) takeHTTP(n protowire.Number, v wire) error {
	switch n {
	case fieldMethod:
		row.Method = string(v.bytes)
	case fieldHost:
		row.Host = string(v.bytes)
	case fieldPath:
		row.Path = string(v.bytes)
	case fieldHeaders:
		return v.pair(func(key string, v wire) error {
			if key == requestID {
				row.StreamID = string(v.bytes)
			}
			return nil
		})
	}
	return nil
}

func (row *RequestRow) takeClaim(key string, v wire) error {
	switch key {
	case "iss":
		row.Issuer = v.text()
	case "sub":
		row.Subject = v.text()
	case "jti":
		row.JTI = v.text()
	}
	return nil
}

func (row *RequestRow) takeRoute(key string, v wire) error {
	switch key {
	case "gateway":
		row.Gateway = v.text()
	case "route":
		row.Route = v.text()
	case "rule":
		row.Rule = v.text()
	case "role":
		row.Role = v.text()
	case "opening":
		row.Opening = v.text()
	case "activations":
		row.Activations = v.text()
	case "incidents":
		row.Incident = v.text()
	}
	return nil
}

// socketAddress of an envoy.config.core.v3.SocketAddress.
func socketAddress(v wire) string {
	var host string
	var port uint64
	if each(v.bytes, func(n protowire.Number, v wire) error {
		switch n {
		case 2:
			host = string(v.bytes)
		case 3:
			port = v.number
		}
		return nil
	}) != nil || host == "" {
		return ""
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10))
}
