package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// client posts to one URL. The files that it needs are read anew when they change,
// so that a certificate or a secret can be replaced under it.
type client struct {
	url    string
	host   string // for errors: the URL may be a secret
	caFile string

	ca     string // as it was when http was made
	http   *http.Client
	served func() time.Time
}

func newClient(to, caFile string, now func() time.Time) *client {
	c := &client{url: to, caFile: caFile, served: now}
	if u, err := url.Parse(to); err == nil {
		c.host = u.Host
	}
	return c
}

// tlsConfig is for a receiver whose authorities are in a file, or the system's.
func tlsConfig(ca string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("it holds no certificate in PEM")
		}
	}
	return c, nil
}

func readSmall(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return string(b), err
}

func (c *client) connect() error {
	ca, err := readSmall(c.caFile)
	if err != nil {
		return fmt.Errorf("read caFile: %w", err)
	}
	if c.http != nil && ca == c.ca {
		return nil
	}
	conf, err := tlsConfig(ca)
	if err != nil {
		return fmt.Errorf("caFile %s: %w", c.caFile, err)
	}
	_ = c.close()
	c.ca = ca
	c.http = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxConnsPerHost: 1, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: maxAnswer, TLSClientConfig: conf,
		},
	}
	return nil
}

func (c *client) close() error {
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	return nil
}

// post sends a body and returns the answer of a receiver that took it (2xx).
func (c *client) post(ctx context.Context, header http.Header, body []byte) (http.Header, []byte, error) {
	if err := c.connect(); err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("post to %s: the URL cannot be used", c.host)
	}
	req.Header = header
	req.Header.Set("User-Agent", "breakglass")
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the path and the query
		}
		return nil, nil, fmt.Errorf("post to %s: %w", c.host, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode/100 != 2:
		return nil, nil, c.judge(resp, answer)
	case err != nil:
		return nil, nil, fmt.Errorf("post to %s: read the answer: %w", c.host, err)
	}
	return resp.Header, answer, nil
}

// judge says whether coming again can help.
func (c *client) judge(resp *http.Response, answer []byte) error {
	err := fmt.Errorf("post to %s: the answer was %d", c.host, resp.StatusCode)
	if text := words(string(answer)); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return &refusedError{err}
	case http.StatusGone:
		return &laterError{fmt.Errorf("%w: the receiver says that it is gone for good: remove the sink, or correct its URL", err), latest}
	}
	if after := retryAfter(resp.Header.Get("Retry-After"), c.served()); after > 0 {
		return &laterError{err, after}
	}
	return err
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return t.Sub(now)
	}
	return 0
}

// words is what a receiver said, fit for a line of a log.
func words(s string) string {
	const most = 200
	s = strings.ToValidUTF8(s, "")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
