package intent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// listening is a server on a socket, until the test ends.
func listening(t testing.TB, sink Sink) (path string, s *Server) {
	path = filepath.Join(t.TempDir(), "intent.sock")
	sock, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s = New(sink, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(sock) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; !errors.Is(err, ErrStopped) {
			t.Errorf("Serve: %v", err)
		}
	})
	return path, s
}

func grpcClient(t testing.TB, path string) authv3.AuthorizationClient {
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is under way
	return authv3.NewAuthorizationClient(conn)
}

// A client that is not ours, over one connection, with messages longer than a frame
// and more of them than fit into the windows.
func TestManyQuestionsAtOnceAreEachAnswered(t *testing.T) {
	k := &keeper{}
	path, s := listening(t, k)
	client := grpcClient(t, path)
	ctx := metadata.AppendToOutgoingContext(t.Context(), EpochMetadata, "e-1")
	long := make([]byte, 40<<10)
	for i := range long {
		long[i] = 'a'
	}
	var wg sync.WaitGroup
	const callers, each = 50, 20
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				q := checkRequest(t)
				q.Attributes.Request.Http.Headers["x-request-id"] = fmt.Sprint(c, "/", i)
				q.Attributes.Request.Http.Path = "/" + string(long)
				if r, err := client.Check(ctx, q); err != nil || r.GetStatus().GetCode() != 0 {
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

// raw is a client that says what it likes.
type raw struct {
	net.Conn
	*http2.Framer
}

func dial(t testing.TB, path string) *raw {
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // or the server did
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	r := &raw{c, http2.NewFramer(c, c)}
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := r.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return r
}

func headers(fields ...string) []byte {
	return (&reply{}).headers(false, fields...).frames[9:]
}

// ask on a stream, in one frame.
func (r *raw) ask(t testing.TB, stream uint32, message []byte) {
	block := headers(":method", "POST", ":scheme", "http", ":path", checkPath, ":authority", "intent", EpochMetadata, "e-1")
	if err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	n := len(message)
	if err := r.WriteData(stream, true, append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, message...)); err != nil {
		t.Fatal(err)
	}
}

// answered is grpc-status of a stream; "" when the connection ended before.
func (r *raw) answered(stream uint32) string {
	for {
		f, err := r.ReadFrame()
		if err != nil {
			return ""
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok && h.StreamID == stream && h.StreamEnded() {
			for _, f := range h.RegularFields() {
				if f.Name == "grpc-status" {
					return f.Value
				}
			}
			return "none"
		}
	}
}

func TestWhatIsNoQuestionIsNeverAnsweredWithYes(t *testing.T) {
	k := &keeper{}
	path, _ := listening(t, k)
	good := encoded(t, checkRequest(t))
	if c := dial(t, path); true {
		c.ask(t, 1, good)
		if got := c.answered(1); got != "0" {
			t.Fatalf("a question: %q", got)
		}
		c.ask(t, 3, good[:len(good)/2])
		if got := c.answered(3); got != unavailable {
			t.Errorf("half a question: %q", got)
		}
		c.ask(t, 5, good)
		if got := c.answered(5); got != "0" {
			t.Errorf("the next one: %q", got)
		}
	}
	message := append([]byte{0, 0, 0, byte(len(good) >> 8), byte(len(good))}, good...)
	post := func(path string) []byte {
		return headers(":method", "POST", ":scheme", "http", ":path", path, ":authority", "intent")
	}
	for name, say := range map[string]func(c *raw) error{
		"another service": func(c *raw) error {
			return errors.Join(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: post("/x/Check"), EndHeaders: true}), c.WriteData(1, true, message))
		},
		"no message": func(c *raw) error {
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: post(checkPath), EndHeaders: true, EndStream: true})
		},
		"an empty message": func(c *raw) error {
			return errors.Join(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: post(checkPath), EndHeaders: true}), c.WriteData(1, true, nil))
		},
		"a compressed one": func(c *raw) error {
			return errors.Join(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: post(checkPath), EndHeaders: true}), c.WriteData(1, true, append([]byte{1}, message[1:]...)))
		},
		"another length": func(c *raw) error {
			return errors.Join(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: post(checkPath), EndHeaders: true}), c.WriteData(1, true, append(message, 0)))
		},
		"a message without headers": func(c *raw) error { return c.WriteData(1, true, message) },
		"no HTTP/2":                 func(c *raw) error { _, err := io.WriteString(c.Conn, "GET / HTTP/1.1\r\n\r\n"); return err },
	} {
		kept := len(k.entries)
		c := dial(t, path)
		if err := say(c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = c.Conn.(*net.UnixConn).CloseWrite() // so that the server ends as well
		if got := c.answered(1); got == "0" || len(k.entries) != kept {
			t.Errorf("%s: %q, and %d kept", name, got, len(k.entries)-kept)
		}
	}
}

func TestAStreamThatEnvoyGaveUpLeavesTheOthersAlone(t *testing.T) {
	path, _ := listening(t, &keeper{})
	c, good := dial(t, path), encoded(t, checkRequest(t))
	if err := errors.Join(
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(":method", "POST", ":scheme", "http", ":path", checkPath), EndHeaders: true}),
		c.WriteData(1, false, []byte{0, 0}), c.WriteRSTStream(1, http2.ErrCodeCancel), c.WriteData(1, true, good),
		c.WritePing(false, [8]byte{7}),
	); err != nil {
		t.Fatal(err)
	}
	c.ask(t, 3, good)
	if got := c.answered(3); got != "0" {
		t.Errorf("%q", got)
	}
}

// Envoy says how many bytes of answers it takes. Beyond, the connection ends: whoever
// waits is refused, and asks by another.
func TestNothingIsAnsweredBeyondWhatEnvoyTakes(t *testing.T) {
	path, s := listening(t, &keeper{})
	c, good := dial(t, path), encoded(t, checkRequest(t))
	stream := uint32(1)
	for ; stream < 2*65535/uint32(len(dataOK)); stream += 2 {
		c.ask(t, stream, good)
		if got := c.answered(stream); got != "0" {
			t.Fatalf("%d: %q", stream, got)
		}
	}
	c.ask(t, stream, good)
	if got := c.answered(stream); got != "" || s.Stats().Kept != uint64(stream/2)+1 {
		t.Errorf("%q, %+v", got, s.Stats())
	}
}

func TestPingsAreAnsweredWhileNobodyAsks(t *testing.T) {
	path, _ := listening(t, &keeper{})
	c := dial(t, path)
	if err := c.WritePing(false, [8]byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := f.(*http2.PingFrame); ok && p.IsAck() && p.Data == [8]byte{1, 2} {
			return
		}
	}
}

func TestStopEndsConnections(t *testing.T) {
	path, s := listening(t, &keeper{})
	c := dial(t, path)
	c.ask(t, 1, encoded(t, checkRequest(t)))
	if got := c.answered(1); got != "0" {
		t.Fatal(got)
	}
	s.Stop()
	if _, err := io.Copy(io.Discard, c.Conn); err != nil && !errors.Is(err, io.EOF) {
		var op *net.OpError
		if !errors.As(err, &op) || op.Timeout() {
			t.Errorf("the connection lives: %v", err)
		}
	}
}

// FuzzConnection: whatever bytes come, nothing is answered with yes that was no whole
// question, and the server lives.
func FuzzConnection(f *testing.F) {
	f.Add([]byte(http2.ClientPreface))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(append([]byte(http2.ClientPreface), 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		k := &keeper{}
		s := New(k, slog.New(slog.DiscardHandler))
		client, server := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- newConn(s, server).serve() }()
		go func() { _, _ = io.Copy(io.Discard, client) }() // ends with it
		_, _ = client.Write(b)                             // as far as it is taken
		_ = client.Close()
		<-ended
		if got := s.Stats().Kept; got != uint64(len(k.entries)) {
			t.Errorf("%d kept, %d in the log", got, len(k.entries))
		}
	})
}

// BenchmarkQuestion is what a question costs over the socket, with a client in Go,
// and a sink that keeps nothing.
func BenchmarkQuestion(b *testing.B) {
	path, _ := listening(b, nothing{})
	c, q := dial(b, path), encoded(b, checkRequest(b))
	if err := errors.Join(c.SetDeadline(time.Time{}), c.WriteWindowUpdate(0, 1<<30)); err != nil {
		b.Fatal(err)
	}
	for stream := uint32(1); b.Loop(); stream += 2 {
		c.ask(b, stream, q)
		if got := c.answered(stream); got != "0" {
			b.Fatalf("%q", got)
		}
	}
}

type nothing struct{}

func (nothing) Intend(context.Context, ...audit.RequestEntry) error { return nil }
