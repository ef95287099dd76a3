package testbed

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// EchoService of a GRPCBackend has the methods Once, which answers with what it gets;
// Watch, which then sends on until it is cut; and Chat, which answers each message.
const EchoService = "test.v1.Echo"

const tick = 5 * time.Millisecond

// StartGRPCBackend serves EchoService on a port of its own until the spec ends.
func StartGRPCBackend(ip string) (port int) {
	GinkgoHelper()
	l, err := net.Listen("tcp", ip+":0")
	Expect(err).NotTo(HaveOccurred())
	s := grpc.NewServer(grpc.UnknownServiceHandler(echoGRPC))
	go func() { _ = s.Serve(l) }() // ends with Stop
	DeferCleanup(s.Stop)
	return l.Addr().(*net.TCPAddr).Port
}

func echoGRPC(_ any, s grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(s.Context())
	if err := s.SetHeader(metadata.Pairs("saw-authorization", fmt.Sprint(len(md["authorization"])), "saw-team", fmt.Sprint(md["x-team"]))); err != nil {
		return err
	}
	method, _ := grpc.MethodFromServerStream(s)
	for m := new(wrapperspb.StringValue); ; {
		if err := s.RecvMsg(m); err != nil {
			return nil //nolint:nilerr // the client has said all
		}
		if err := s.SendMsg(m); err != nil || method == "/"+EchoService+"/Once" {
			return err
		}
		for method == "/"+EchoService+"/Watch" {
			select {
			case <-s.Context().Done():
				return s.Context().Err()
			case <-time.After(tick):
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}
}

// GRPC calls a host over the HTTP listener of the world, or the HTTPS one.
func (w *World) GRPC(host string, secure bool) *GRPCClient {
	GinkgoHelper()
	if !secure {
		return GRPCAt(fmt.Sprintf("127.0.0.1:%d", w.HTTP), host, insecure.NewCredentials())
	}
	creds := credentials.NewTLS(&tls.Config{RootCAs: w.certificate.pool, ServerName: host})
	return GRPCAt(fmt.Sprintf("127.0.0.1:%d", w.HTTPS), host, creds)
}

// GRPCAt calls a host at an address.
func GRPCAt(address, host string, creds credentials.TransportCredentials) *GRPCClient {
	GinkgoHelper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds), grpc.WithAuthority(host), grpc.WithNoProxy())
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(conn.Close)
	return &GRPCClient{conn}
}

// GRPCClient calls methods of one host.
type GRPCClient struct{ conn *grpc.ClientConn }

// Once calls the method of this path, as /SERVICE/METHOD, and tells how it went and
// what came with the answer. Without a token there is no authorization.
func (c *GRPCClient) Once(path, token string) (codes.Code, metadata.MD) {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(withToken(context.Background(), token), 5*time.Second)
	defer cancel()
	var header metadata.MD
	answer := new(wrapperspb.StringValue)
	err := c.conn.Invoke(ctx, path, wrapperspb.String("hello"), answer, grpc.Header(&header))
	if err == nil {
		Expect(answer.GetValue()).To(Equal("hello"))
	}
	return status.Code(err), header
}

func withToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// GRPCStream is a call that goes on until somebody ends it.
type GRPCStream struct {
	method string
	done   chan struct{}

	mu        sync.Mutex
	last, end time.Time
	err       error
}

// Stream calls Watch or Chat, and returns once something has come back. Its client
// would wait for three years.
func (c *GRPCClient) Stream(method, token string) *GRPCStream {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(withToken(context.Background(), token), 3*365*24*time.Hour)
	DeferCleanup(cancel)
	call, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+EchoService+"/"+method)
	Expect(err).NotTo(HaveOccurred())
	Expect(call.SendMsg(wrapperspb.String("hello"))).To(Succeed())
	if method == "Watch" {
		Expect(call.CloseSend()).To(Succeed())
	}
	s := &GRPCStream{method: method, done: make(chan struct{})}
	Expect(s.receive(call)).To(Succeed())
	go func() {
		defer close(s.done)
		for {
			if method == "Chat" {
				time.Sleep(tick)
				_ = call.SendMsg(wrapperspb.String("hello")) // RecvMsg says why not
			}
			if s.receive(call) != nil {
				return
			}
		}
	}()
	return s
}

func (s *GRPCStream) receive(call grpc.ClientStream) error {
	err := call.RecvMsg(new(wrapperspb.StringValue))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.last = time.Now()
	} else {
		s.end, s.err = time.Now(), err
	}
	return err
}

// Done is closed when it has ended.
func (s *GRPCStream) Done() <-chan struct{} { return s.done }

// Last is when the last message came, and End when it was cut.
func (s *GRPCStream) Last() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.last }

// End of the call.
func (s *GRPCStream) End() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.end }

func (s *GRPCStream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%s: last message %s, end %s: %v", s.method, s.last, s.end, s.err)
}
