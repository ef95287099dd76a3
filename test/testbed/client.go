package testbed

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// Client speaks one version of HTTP to one listener, over one connection as long
// as that can be used.
type Client struct {
	transport *http.Transport
	scheme    string
	address   string
	// conn is that of the last request; with HTTP/2 all share it.
	http2 bool
	// reach, if set, connects in place of address: a TCP connection.
	reach func(context.Context) (net.Conn, error)
}

// H1 speaks HTTP/1.1 in the clear.
func (w *World) H1() *Client { return w.client(w.HTTP, false, false) }

// H2C speaks HTTP/2 with prior knowledge in the clear.
func (w *World) H2C() *Client { return w.client(w.HTTP, false, true) }

// TLS1 speaks HTTP/1.1 over TLS.
func (w *World) TLS1() *Client { return w.client(w.HTTPS, true, false) }

// TLS2 speaks HTTP/2 over TLS.
func (w *World) TLS2() *Client { return w.client(w.HTTPS, true, true) }

// H1On speaks HTTP/1.1 in the clear to another port.
func (w *World) H1On(port int) *Client { return w.client(port, false, false) }

// H2COn speaks HTTP/2 with prior knowledge in the clear to another port.
func (w *World) H2COn(port int) *Client { return w.client(port, false, true) }

// At speaks HTTP in the clear to an address: HTTP/2 with prior knowledge, or HTTP/1.1.
func At(address string, http2 bool) *Client { return newClient(address, nil, false, http2) }

// TLSOver speaks HTTP over TLS, with a server whose certificate is of the pool, over TCP connections of its own making.
func TLSOver(reach func(context.Context) (net.Conn, error), pool *x509.CertPool, http2 bool) *Client {
	c := newClient("", pool, true, http2)
	c.reach = reach
	return c
}

func (w *World) client(port int, secure, http2 bool) *Client {
	return newClient(fmt.Sprintf("127.0.0.1:%d", port), w.certificate.pool, secure, http2)
}

func newClient(address string, pool *x509.CertPool, secure, http2 bool) *Client {
	c := &Client{scheme: "http", address: address, http2: http2}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2 && secure)
	protocols.SetUnencryptedHTTP2(http2 && !secure)
	c.transport = &http.Transport{
		Protocols: protocols, DisableCompression: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: 10 * time.Second,
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		TLSClientConfig: &tls.Config{RootCAs: pool},
	}
	if secure {
		c.scheme = "https"
	}
	return c
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	reach := c.reach
	if reach == nil {
		reach = func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", c.address) }
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := reach(ctx)
	if err != nil {
		return nil, err
	}
	return stamp(conn.(*net.TCPConn))
}

// TLS2On speaks HTTP/2 over TLS to another port.
func (w *World) TLS2On(port int) *Client { return w.client(port, true, true) }

// TLS1On speaks HTTP/1.1 over TLS to another port.
func (w *World) TLS1On(port int) *Client { return w.client(port, true, false) }

// ServerName asks for the certificate of this host by SNI, whatever hosts the requests
// are for.
func (c *Client) ServerName(name string) *Client {
	c.transport.TLSClientConfig.ServerName = name
	return c
}

// Showing shows a certificate to whoever asks for one, also for one of others.
func (c *Client) Showing(certificate tls.Certificate) *Client {
	c.transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	return c
}

// Resuming takes up sessions of before, if the server lets it. Resumed tells of the last
// connection.
func (c *Client) Resuming(resumed *bool) *Client {
	c.transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	c.transport.TLSClientConfig.VerifyConnection = func(s tls.ConnectionState) error {
		*resumed = s.DidResume
		return nil
	}
	return c
}

// Version is the only one of TLS that it speaks.
func (c *Client) Version(v uint16) *Client {
	c.transport.TLSClientConfig.MinVersion, c.transport.TLSClientConfig.MaxVersion = v, v
	return c
}

// Fresh makes a new connection for each request, so that all of Envoy's workers
// are asked.
func (c *Client) Fresh() *Client {
	c.transport.DisableKeepAlives = true
	return c
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Request is a request. Method is GET if it is empty, Token may be. Host goes
// into the request and, with TLS, the SNI is always door.example.test, so that
// hosts share a connection. Path goes out as it is, with its query; one that
// begins with two slashes takes Raw.
type Request struct {
	Method, Host, Path, Token string
	Header                    http.Header
	Body                      io.Reader
}

// Reply to a request. Status 0: there was none, and Err says why.
type Reply struct {
	Status     int
	Body       string
	Header     http.Header
	Err        error
	Start, End time.Time
}

func (r Request) build(ctx context.Context, scheme string) (*http.Request, error) {
	path, query, _ := strings.Cut(r.Path, "?")
	if strings.HasPrefix(path, "//") {
		return nil, fmt.Errorf("net/http would take %q for a host: use Raw", path)
	}
	u := &url.URL{Scheme: scheme, Host: "door.example.test", Opaque: path, RawQuery: query}
	req := (&http.Request{Method: r.Method, URL: u, Host: r.Host, Header: http.Header{}}).WithContext(ctx)
	if req.Method == "" {
		req.Method = http.MethodGet
	}
	for k, v := range r.Header {
		req.Header[k] = v
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	if r.Body != nil {
		req.Body = io.NopCloser(r.Body)
		req.ContentLength = -1
	}
	return req, nil
}

// Do makes a request and reads the whole answer.
func (c *Client) Do(r Request) Reply {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := r.build(ctx, c.scheme)
	if err != nil {
		return Reply{Err: err}
	}
	out := Reply{Start: time.Now()}
	res, err := c.transport.RoundTrip(req)
	if err != nil {
		out.Err, out.End = err, time.Now()
		return out
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	out.Status, out.Body, out.Header, out.Err, out.End = res.StatusCode, string(b), res.Header, err, time.Now()
	return out
}

// Get is Do for the common case.
func (c *Client) Get(host, path, token string) Reply {
	return c.Do(Request{Host: host, Path: path, Token: token})
}

// Status is the status of a Get, for Eventually.
func (c *Client) Status(host, path, token string) func() int {
	return func() int { return c.Get(host, path, token).Status }
}

// Raw sends bytes to the HTTP listener as they are and reads one answer.
func (w *World) Raw(lines ...string) Reply {
	GinkgoHelper()
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", w.HTTP), 2*time.Second)
	Expect(err).NotTo(HaveOccurred())
	defer conn.Close()
	Expect(conn.SetDeadline(time.Now().Add(5 * time.Second))).To(Succeed())
	_, err = io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	Expect(err).NotTo(HaveOccurred())
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return Reply{Err: err} // closed without an answer
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return Reply{Status: res.StatusCode, Body: string(b), Header: res.Header, Err: err}
}
