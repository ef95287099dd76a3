package testbed

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Field is a header field of HTTP/2 as it is to be sent, valid or not.
type Field struct{ Name, Value string }

// Frames is an HTTP/2 connection on which anything can be written.
type Frames struct {
	*http2.Framer
	conn net.Conn
	head bytes.Buffer
	hp   *hpack.Encoder
	hd   *hpack.Decoder
}

// H2Frames connects to the HTTPS listener and has exchanged settings.
func (w *World) H2Frames() *Frames {
	GinkgoHelper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.HTTPS), &tls.Config{
		RootCAs: w.certificate.pool, ServerName: "door.example.test", NextProtos: []string{"h2"},
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { _ = conn.Close() }) // the gateway may have closed it
	_, err = conn.Write([]byte(http2.ClientPreface))
	Expect(err).NotTo(HaveOccurred())
	f := &Frames{Framer: http2.NewFramer(conn, conn), conn: conn, hd: hpack.NewDecoder(4096, nil)}
	f.AllowIllegalWrites, f.hp = true, hpack.NewEncoder(&f.head)
	Expect(f.WriteSettings()).To(Succeed())
	return f
}

// Request writes a HEADERS frame with these fields in this order.
func (f *Frames) Request(stream uint32, end bool, fields ...Field) error {
	f.head.Reset()
	for _, h := range fields {
		if err := f.hp.WriteField(hpack.HeaderField{Name: h.Name, Value: h.Value}); err != nil {
			return err
		}
	}
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.head.Bytes(), EndStream: end, EndHeaders: true})
}

// Status is that of the stream; 0 if the stream is reset, the connection closed,
// or nothing comes for patience.
func (f *Frames) Status(stream uint32, patience time.Duration) int {
	for {
		if f.conn.SetReadDeadline(time.Now().Add(patience)) != nil {
			return 0
		}
		frame, err := f.ReadFrame()
		if err != nil {
			return 0
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() && f.WriteSettingsAck() != nil {
				return 0
			}
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream {
				return 0
			}
		case *http2.HeadersFrame:
			fields, err := f.hd.DecodeFull(frame.HeaderBlockFragment())
			if err != nil || frame.StreamID != stream {
				continue
			}
			for _, h := range fields {
				if h.Name == ":status" {
					n, _ := strconv.Atoi(h.Value) // 0 is no answer
					return n
				}
			}
		}
	}
}

// Drain reads and forgets until the connection ends.
func (f *Frames) Drain() {
	_ = f.conn.SetReadDeadline(time.Time{}) // an error shows at the read
	_, _ = io.Copy(io.Discard, f.conn)
}

// Close the connection.
func (f *Frames) Close() { _ = f.conn.Close() }
