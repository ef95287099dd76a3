package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
)

// forward is the way to a port of a pod, through the API server and the kubelet. No
// port of this machine is opened for it.
type forward struct {
	config *rest.Config
	url    *url.URL
	port   string
}

func (c *Cluster) forward(namespace, pod, port string) (*forward, error) {
	base, _, err := rest.DefaultServerUrlFor(c.Config)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster %s: %w", c.info.Where, err)
	}
	return &forward{c.Config, base.JoinPath("api/v1/namespaces", namespace, "pods", pod, "portforward"), port}, nil
}

// dial makes a connection; whom an HTTP client thinks that it dials does not matter.
func (f *forward) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := f.connect()
		done <- result{conn, err}
	}()
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
	case <-timer.C:
	}
	go func() { // it comes too late
		if r := <-done; r.conn != nil {
			_ = r.conn.Close()
		}
	}()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("no port-forward within %s", answerTimeout)
}

func (f *forward) connect() (net.Conn, error) {
	dialer, err := portforward.NewSPDYOverWebsocketDialerForStreaming(f.url, f.config)
	if err != nil {
		return nil, err
	}
	conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		var refused *httpstream.UpgradeFailureError
		if errors.As(err, &refused) {
			err = refused.Cause
		}
		return nil, err
	}
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, f.port)
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	problems, err := conn.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_ = problems.Close() // nothing is written to it
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	out := &forwarded{Stream: data, conn: conn}
	go out.listen(problems)
	return out, nil
}

// forwarded is one connection. It ends when its streams do; deadlines it has none.
type forwarded struct {
	httpstream.Stream
	conn httpstream.Connection

	mu  sync.Mutex
	why error
}

// listen to what the kubelet says is wrong, such as that nobody listens at the port.
func (c *forwarded) listen(problems io.Reader) {
	text, err := io.ReadAll(io.LimitReader(problems, 4<<10))
	if err != nil || len(text) == 0 {
		return
	}
	c.mu.Lock()
	c.why = fmt.Errorf("the kubelet: %s", text)
	c.mu.Unlock()
	_ = c.conn.Close() // whoever reads is told why
}

func (c *forwarded) because(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.why != nil {
		return c.why
	}
	return err
}

func (c *forwarded) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	return n, c.because(err)
}

func (c *forwarded) Write(b []byte) (int, error) {
	n, err := c.Stream.Write(b)
	return n, c.because(err)
}

func (c *forwarded) Close() error {
	_ = c.Stream.Reset()
	return c.conn.Close()
}

// byPod is the address of both ends, which have none.
type byPod struct{}

func (byPod) Network() string { return "tcp" }
func (byPod) String() string  { return "port-forward" }

func (c *forwarded) LocalAddr() net.Addr              { return byPod{} }
func (c *forwarded) RemoteAddr() net.Addr             { return byPod{} }
func (c *forwarded) SetDeadline(time.Time) error      { return nil }
func (c *forwarded) SetReadDeadline(time.Time) error  { return nil }
func (c *forwarded) SetWriteDeadline(time.Time) error { return nil }
