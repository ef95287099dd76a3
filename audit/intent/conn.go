package intent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
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
	in     *bufio.Reader
	framer *http2.Framer
	asked  map[uint32]*question // streams whose message is not whole
	last   uint32               // highest stream
	read   uint32               // bytes of which Envoy was not told yet
	window int64                // bytes of answers that Envoy takes
	whole  []uint32             // streams that wait for the disk, with
	wanted []audit.RequestEntry // what they ask for
	out    []byte               // to be written
}

// question is a stream on its way in.
type question struct {
	epoch string
	other bool // it is none
	body  []byte
}

func newConn(s *Server, c net.Conn) *conn {
	k := &conn{
		server: s, net: c, in: bufio.NewReaderSize(c, 64<<10), asked: map[uint32]*question{},
		window: 65535, // RFC 9113, section 6.9.2
	}
	k.framer = http2.NewFramer(writer{k}, k.in)
	k.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	k.framer.MaxHeaderListSize = 64 << 10
	k.framer.SetMaxReadFrameSize(16 << 10)
	k.framer.SetReuseFrames()
	return k
}

// writer is what the Framer writes to.
type writer struct{ *conn }

func (w writer) Write(b []byte) (int, error) {
	w.out = append(w.out, b...)
	return len(b), nil
}

// serve until the connection ends. It returns nil when Envoy, or Stop, ended it.
//
// What has come is read to its end before the disk is asked, once for all of it; what
// comes meanwhile waits in the socket, and is the next.
func (c *conn) serve() (err error) {
	defer c.net.Close() // it ends here, whoever ended it
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.in, preface); err != nil {
		return nil // nobody asked anything
	}
	if string(preface) != http2.ClientPreface {
		return errors.New("it is not HTTP/2")
	}
	err = errors.Join(
		c.framer.WriteSettings(
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxMessage},
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: maxStreams}),
		c.framer.WriteWindowUpdate(0, connWindow))
	for err == nil {
		if c.in.Buffered() == 0 || len(c.whole) >= maxStreams {
			if err = c.answer(); err != nil {
				break
			}
		}
		var f http2.Frame
		if f, err = c.framer.ReadFrame(); err == nil {
			err = c.take(f)
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
func (c *conn) take(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		return c.headers(f)
	case *http2.DataFrame:
		return c.data(f)
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
			c.window += int64(f.Increment)
		}
	case *http2.RSTStreamFrame:
		delete(c.asked, f.StreamID) // what waits for the disk is kept nevertheless, and the answer ignored
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
	if len(c.asked) >= maxStreams {
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

func (c *conn) data(f *http2.DataFrame) error {
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
	if e, err := q.read(); err != nil {
		c.server.refuse(1, err)
		c.put(no, f.StreamID)
	} else {
		c.whole, c.wanted = append(c.whole, f.StreamID), append(c.wanted, e)
	}
	return nil
}

// read what is asked for. A message has its length before it (the gRPC protocol,
// Length-Prefixed-Message); none is compressed.
func (q *question) read() (audit.RequestEntry, error) {
	if b := q.body; !q.other && len(b) >= 5 && b[0] == 0 && int(binary.BigEndian.Uint32(b[1:5])) == len(b)-5 {
		return read(q.epoch, b[5:])
	}
	return audit.RequestEntry{}, errIntent
}

// answer all that waits, when the disk has it, and write what there is to write.
func (c *conn) answer() error {
	if len(c.whole) > 0 {
		reply := no
		if c.server.keep(c.wanted) {
			reply = yes
			if c.window -= int64(len(dataOK) * len(c.whole)); c.window < 0 {
				return errors.New("it takes no more answers")
			}
		}
		for _, stream := range c.whole {
			c.put(reply, stream)
		}
		clear(c.wanted)
		c.whole, c.wanted = c.whole[:0], c.wanted[:0]
	}
	if len(c.out) == 0 {
		return nil
	}
	if err := c.net.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := c.net.Write(c.out)
	c.out = c.out[:0]
	return err
}

// reply is the frames that end a stream, and where in them its number goes.
type reply struct {
	frames  []byte
	streams []int
}

var (
	dataOK = []byte{0, 0, 0, 0, 0} // a CheckResponse without a status: OK
	yes    = (&reply{}).headers(false, ":status", "200", "content-type", "application/grpc").
		frame(http2.FrameData, 0, dataOK).headers(true, "grpc-status", "0")
	no = (&reply{}).headers(true, ":status", "200", "content-type", "application/grpc", "grpc-status", unavailable)
)

const unavailable = "14" // google.rpc.Code

func (r *reply) frame(t http2.FrameType, flags http2.Flags, payload []byte) *reply {
	n := len(payload)
	r.streams = append(r.streams, len(r.frames)+5)
	r.frames = append(r.frames, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags), 0, 0, 0, 0)
	r.frames = append(r.frames, payload...)
	return r
}

// headers that leave nothing behind in the table of the connection.
func (r *reply) headers(last bool, fields ...string) *reply {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true}) // into a buffer
	}
	flags := http2.FlagHeadersEndHeaders
	if last {
		flags |= http2.FlagHeadersEndStream
	}
	return r.frame(http2.FrameHeaders, flags, block.Bytes())
}

// put an answer with what is to be written.
func (c *conn) put(r *reply, stream uint32) {
	at := len(c.out)
	c.out = append(c.out, r.frames...)
	for _, n := range r.streams {
		binary.BigEndian.PutUint32(c.out[at+n:], stream)
	}
}
