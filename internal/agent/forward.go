package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// maxRequestBytes bounds a request of Envoy, which lists all that it holds when it
// comes again.
const maxRequestBytes = 64 << 20

// again is the time between attempts to reach the controller.
const again = 100 * time.Millisecond

var deltaStream = grpc.StreamDesc{StreamName: "DeltaAggregatedResources", ServerStreams: true, ClientStreams: true}

// newForwarder serves Envoy's delta stream, and no other.
func (a *agent) newForwarder() *grpc.Server {
	s := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(maxRequestBytes), dataplane.TakePings())
	desc := deltaStream
	desc.Handler = func(_ any, envoy grpc.ServerStream) error { return a.forward(envoy) }
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: discovery.AggregatedDiscoveryService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{desc},
	}, a)
	return s
}

// forward one stream of Envoy until either end ends it.
func (a *agent) forward(envoy grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(envoy.Context())
	defer cancel()
	controller, err := a.dial(ctx)
	if err != nil {
		return err
	}
	a.connected(1)
	defer a.connected(-1)
	requests, failed := make(chan []byte), make(chan error, 2)
	go receive(ctx, envoy, requests, failed)
	go a.answer(controller, envoy, failed)
	err = a.send(ctx, controller, requests, failed)
	if ctx.Err() == nil {
		a.log.Info("the controller's stream ended; Envoy keeps what it has and comes again", "cause", err)
	}
	return err
}

// dial opens a stream to the controller, however long that takes: Envoy need not
// come again and again.
func (a *agent) dial(ctx context.Context) (grpc.ClientStream, error) {
	method := "/" + discovery.AggregatedDiscoveryService_ServiceDesc.ServiceName + "/" + deltaStream.StreamName
	for {
		s, err := a.upstream.NewStream(ctx, &deltaStream, method, grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32))
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		a.troubled(err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// troubled notes why there is no connection, and logs it once.
func (a *agent) troubled(why string) {
	a.mu.Lock()
	before := a.trouble
	a.trouble = why
	a.mu.Unlock()
	if before == "" && why != "" {
		a.log.Warn("the controller cannot be reached; trying on", "controller", a.opts.Controller, "error", why)
	}
}

func (a *agent) connected(more int) {
	a.mu.Lock()
	a.streams += more
	a.mu.Unlock()
	if more > 0 {
		a.troubled("")
		a.log.Info("connected to the controller", "controller", a.opts.Controller)
	}
}

// send is what goes to the controller: a report before all else, and then what
// Envoy asks and what there is to report.
func (a *agent) send(ctx context.Context, controller grpc.ClientStream, requests <-chan []byte, failed chan error) error {
	node := protowire.AppendTag(nil, fieldNode, protowire.BytesType)
	node = protowire.AppendBytes(node, protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), a.node))
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for due := true; ; {
		report, changed := a.now()
		var message []byte
		var err error
		switch {
		case due:
			message, err = a.encode(report)
			due = false
		default:
			select {
			case message = <-requests:
				message, err = fromEnvoy(message)
				message = append(node[:len(node):len(node)], message...) // once would do, and 60 bytes are nothing
			case <-changed:
				due = true
			case <-tick.C:
				due = true
			case err = <-failed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		switch {
		case errors.Is(err, errReport):
			return status.Error(codes.InvalidArgument, err.Error())
		case err != nil:
			return err
		case due:
			continue
		}
		if controller.SendMsg(&frame{message}) != nil {
			return <-failed // says why
		}
	}
}

// receive what Envoy asks.
func receive(ctx context.Context, envoy grpc.ServerStream, requests chan<- []byte, failed chan<- error) {
	for {
		var f frame
		if err := envoy.RecvMsg(&f); err != nil {
			failed <- err
			return
		}
		select {
		case requests <- f.bytes:
		case <-ctx.Done():
			return
		}
	}
}

// answer passes on what the controller sends.
func (a *agent) answer(controller grpc.ClientStream, envoy grpc.ServerStream, failed chan<- error) {
	for {
		var f frame
		err := controller.RecvMsg(&f)
		if err == nil {
			a.mu.Lock()
			a.answered = time.Now()
			a.forwarded++
			a.mu.Unlock()
			a.noteLeases(f.bytes)
			err = envoy.SendMsg(&f)
		} else if errors.Is(err, io.EOF) {
			err = status.Error(codes.Unavailable, "the controller ended the stream")
		} else {
			err = status.Error(codes.Unavailable, fmt.Sprintf("the controller: %v", err))
		}
		if err != nil {
			failed <- err
			return
		}
	}
}
