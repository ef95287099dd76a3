package intent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	checkPath = "/envoy.service.auth.v3.Authorization/Check"

	// maxMessage bounds a question: Envoy's own bound on the headers of a request is
	// 32 KiB, and what a route says of itself comes from us.
	maxMessage = 1 << 20
	// maxStreams is how many questions of one connection may be open. Envoy then makes
	// another connection.
	maxStreams = 4096
	// connWindow is how many bytes of questions Envoy may send before it hears that
	// they were read; it hears so each time a quarter of them was.
	connWindow = 4 * maxMessage
	// writeTime is how long Envoy may take to read answers.
	writeTime = 5 * time.Second
)

// conn is the connection of one worker of an Envoy: HTTP/2, of which it has what a
// gRPC client of unary calls needs and no more. Whatever else comes ends it, and so
// refuses what waits.
type conn struct {
	server *Server
	net    net.Conn
	framer *http2.Framer
	asked  map[uint32]*question // streams whose message is not whole
	last   uint32               // highest stream
	read   uint32               // bytes of which Envoy was not told yet
	window atomic.Int64         // bytes of answers that Envoy takes
	live   atomic.Int64         // streams that wait for the disk

	mu      sync.Mutex
	out     []byte // to be written
	spare   []byte
	writing bool
	failed  error
}

// question is a stream on its way in.
type question struct {
	epoch string
	other bool // it is none
	body  []byte
}

func newConn(s *Server, c net.Conn) *conn {
	k := &conn{server: s, net: c, asked: map[uint32]*question{}}
	k.window.Store(65535) // RFC 9113, section 6.9.2
	k.framer = http2.NewFramer(writer{k}, bufio.NewReaderSize(c, 64<<10))
	k.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	k.framer.MaxHeaderListSize = 64 << 10
	k.framer.SetMaxReadFrameSize(16 << 10)
	k.framer.SetReuseFrames()
	return k
}

// writer is what the Framer writes to: each frame in one call.
type writer struct{ *conn }

func (w writer) Write(b []byte) (int, error) { return len(b), w.send(b) }

// serve until the connection ends. It returns nil when Envoy ended it.
func (c *conn) serve() (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var asked sync.WaitGroup
	defer func() {
		_ = c.net.Close() // it ends here, whoever ended it
		asked.Wait()
		cancel()
	}()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.net, preface); err != nil {
		return nil // nobody asked anything
	}
	if string(preface) != http2.ClientPreface {
		return errors.New("it is not HTTP/2")
	}
	err = errors.Join(
		c.framer.WriteSettings(
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxMessage},
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: maxStreams},
			http2.Setting{ID: http2.SettingHeaderTableSize, Val: 4096}),
		c.framer.WriteWindowUpdate(0, connWindow))
	for err == nil {
		var f http2.Frame
		f, err = c.framer.ReadFrame()
		if err == nil {
			err = c.take(ctx, &asked, f)
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || isReset(err) {
		return nil
	}
	return err
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

// take one frame.
func (c *conn) take(ctx context.Context, asked *sync.WaitGroup, f http2.Frame) error {
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		return c.headers(f)
	case *http2.DataFrame:
		return c.data(ctx, asked, f)
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok && v < uint32(len(dataOK)) {
			return errors.New("it takes no answers")
		}
		return c.framer.WriteSettingsAck()
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return c.framer.WritePing(true, f.Data)
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window.Add(int64(f.Increment))
		}
	case *http2.RSTStreamFrame:
		delete(c.asked, f.StreamID) // what waits for the disk may be durable, and nobody is told
	}
	return nil
}

func (c *conn) headers(f *http2.MetaHeadersFrame) error {
	if f.StreamID <= c.last {
		return errors.New("a stream has trailers, or begins again")
	}
	c.last = f.StreamID
	if f.StreamEnded() || f.Truncated {
		return errors.New("a stream without a message")
	}
	if len(c.asked)+int(c.live.Load()) >= maxStreams {
		return fmt.Errorf("more than %d streams", maxStreams)
	}
	q := &question{other: f.PseudoValue("path") != checkPath}
	for _, h := range f.RegularFields() {
		if h.Name == EpochMetadata {
			q.epoch = h.Value
		}
	}
	c.asked[f.StreamID] = q
	return nil
}

func (c *conn) data(ctx context.Context, asked *sync.WaitGroup, f *http2.DataFrame) error {
	c.read += f.Length
	if c.read >= connWindow/4 {
		if err := c.framer.WriteWindowUpdate(0, c.read); err != nil {
			return err
		}
		c.read = 0
	}
	q := c.asked[f.StreamID]
	if q == nil {
		return nil // it was reset
	}
	q.body = append(q.body, f.Data()...)
	if len(q.body) > maxMessage {
		return errors.New("a message is too long")
	}
	if !f.StreamEnded() {
		return nil
	}
	delete(c.asked, f.StreamID)
	id := f.StreamID
	c.live.Add(1)
	asked.Go(func() {
		c.answer(id, c.ask(ctx, q))
		c.live.Add(-1)
	})
	return nil
}

// ask reports whether the answer is yes.
func (c *conn) ask(ctx context.Context, q *question) bool {
	// A message has its length before it (the gRPC protocol, Length-Prefixed-Message);
	// none is compressed.
	if b := q.body; !q.other && len(b) >= 5 && b[0] == 0 && int(binary.BigEndian.Uint32(b[1:5])) == len(b)-5 {
		return c.server.keep(ctx, q.epoch, b[5:])
	}
	return false
}

// answer is the frames that end a stream, and where in them its number goes.
type answer struct {
	frames  []byte
	streams []int
}

var (
	dataOK = []byte{0, 0, 0, 0, 0} // a CheckResponse without a status: OK
	yes    = (&answer{}).headers(false, ":status", "200", "content-type", "application/grpc").
		frame(http2.FrameData, 0, dataOK).headers(true, "grpc-status", "0")
	no = (&answer{}).headers(true, ":status", "200", "content-type", "application/grpc", "grpc-status", unavailable)
)

const unavailable = "14" // google.rpc.Code

func (a *answer) frame(t http2.FrameType, flags http2.Flags, payload []byte) *answer {
	n := len(payload)
	a.streams = append(a.streams, len(a.frames)+5)
	a.frames = append(a.frames, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags), 0, 0, 0, 0)
	a.frames = append(a.frames, payload...)
	return a
}

// headers that leave nothing behind in the table of the connection.
func (a *answer) headers(last bool, fields ...string) *answer {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true}) // into a buffer
	}
	flags := http2.FlagHeadersEndHeaders
	if last {
		flags |= http2.FlagHeadersEndStream
	}
	return a.frame(http2.FrameHeaders, flags, block.Bytes())
}

// answer a stream.
func (c *conn) answer(stream uint32, is bool) {
	a := no
	if is {
		a = yes
		if c.window.Add(-int64(len(dataOK))) < 0 {
			_ = c.net.Close() // Envoy takes no more answers: what waits is refused
			return
		}
	}
	c.mu.Lock()
	at := len(c.out)
	c.out = append(c.out, a.frames...)
	for _, n := range a.streams {
		binary.BigEndian.PutUint32(c.out[at+n:], stream)
	}
	_ = c.flush() // if it fails the connection has ended, and with it who asked
}

// send frames.
func (c *conn) send(b []byte) error {
	c.mu.Lock()
	c.out = append(c.out, b...)
	return c.flush()
}

// flush writes what there is, and unlocks. What others add meanwhile goes with the
// next write, which is that of whoever writes already.
func (c *conn) flush() error {
	defer c.mu.Unlock()
	if c.writing {
		return c.failed
	}
	c.writing = true
	for len(c.out) > 0 && c.failed == nil {
		b := c.out
		c.out = c.spare[:0]
		c.mu.Unlock()
		err := c.net.SetWriteDeadline(time.Now().Add(writeTime))
		if err == nil {
			_, err = c.net.Write(b)
		}
		c.mu.Lock()
		c.spare = b
		if err != nil {
			c.failed = err
			_ = c.net.Close()
		}
	}
	c.writing = false
	return c.failed
}
