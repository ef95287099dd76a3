package audit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// RequestSink takes what the receiver gets. Request must not block.
type RequestSink interface {
	Request(RequestEntry)
}

// Receiver is the gRPC Access Log Service of Envoy
// (envoy.service.accesslog.v3.AccessLogService): what it gets becomes request
// entries. The package documentation says how Envoy is to be configured.
type Receiver struct {
	sink RequestSink
	log  *slog.Logger

	streams, requests, ignored, tcp, malformed atomic.Uint64
}

// NewReceiver returns a receiver that writes to sink.
func NewReceiver(sink RequestSink, log *slog.Logger) *Receiver {
	return &Receiver{sink: sink, log: log}
}

// ReceiverStats are counts since the start, for metrics.
type ReceiverStats struct {
	Streams   uint64 // opened by Envoys
	Requests  uint64 // entries handed to the sink
	Ignored   uint64 // HTTP entries of other types: periodic, upstream
	TCP       uint64 // TCP entries, ignored for now
	Malformed uint64 // messages that are not what the protocol says
}

// Stats returns the present counts.
func (r *Receiver) Stats() ReceiverStats {
	return ReceiverStats{
		Streams: r.streams.Load(), Requests: r.requests.Load(), Ignored: r.ignored.Load(),
		TCP: r.tcp.Load(), Malformed: r.malformed.Load(),
	}
}

// Register adds the service to s.
func (r *Receiver) Register(s *grpc.Server) {
	// Not the generated registration: its handler decodes within gRPC, where one
	// byte that is not UTF-8 (a client can cause it) fails the whole stream and
	// loses every entry of the message.
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: alsv3.AccessLogService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName:    "StreamAccessLogs",
			ClientStreams: true,
			Handler:       func(_ any, s grpc.ServerStream) error { return r.receive(s) },
		}},
		Metadata: alsv3.AccessLogService_ServiceDesc.Metadata,
	}, r)
}

// receive serves one Envoy's stream until it ends.
func (r *Receiver) receive(s grpc.ServerStream) error {
	r.streams.Add(1)
	node := ""
	for {
		// Empty keeps fields it does not know, that is all of them, as bytes.
		var raw emptypb.Empty
		if err := s.RecvMsg(&raw); errors.Is(err, io.EOF) {
			return s.SendMsg(&alsv3.StreamAccessLogsResponse{})
		} else if err != nil {
			if status.Code(err) == codes.Internal { // not: the Envoy left
				r.lost(node, err)
			}
			return err // Envoy opens another
		}
		m, err := decode(raw.ProtoReflect().GetUnknown())
		if err != nil {
			r.lost(node, err)
			continue
		}
		// Only the first message of a stream carries it.
		if id := m.GetIdentifier().GetNode().GetId(); id != "" {
			node = id
		}
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			r.http(node, e)
		}
		r.tcp.Add(uint64(len(m.GetTcpLogs().GetLogEntry())))
	}
}

// lost records that a message of an Envoy could not be read. It held at least
// one entry.
func (r *Receiver) lost(node string, err error) {
	r.malformed.Add(1)
	r.log.Error("access log message lost", "node", node, "error", err)
}

// decode is proto.Unmarshal that takes strings which are not UTF-8, and
// replaces what is wrong in them.
func decode(b []byte) (*alsv3.StreamAccessLogsMessage, error) {
	m := &alsv3.StreamAccessLogsMessage{}
	err := proto.Unmarshal(b, m)
	if err == nil {
		return m, nil
	}
	fixed, fixErr := validUTF8(b, m.ProtoReflect().Descriptor(), 0)
	if fixErr != nil {
		return nil, fmt.Errorf("decode an access log message: %w", err)
	}
	m = &alsv3.StreamAccessLogsMessage{}
	if err := proto.Unmarshal(fixed, m); err != nil {
		return nil, fmt.Errorf("decode an access log message: %w", err)
	}
	return m, nil
}

func (r *Receiver) http(node string, e *dataaccesslogv3.HTTPAccessLogEntry) {
	typ := entryType(e.GetCommonProperties())
	if typ == "" {
		r.ignored.Add(1)
		return
	}
	r.requests.Add(1)
	r.sink.Request(newRequestEntry(node, typ, e))
}
