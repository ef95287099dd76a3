package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

const (
	// dialTimeout bounds how long a serve that does not accept is waited for.
	dialTimeout = 5 * time.Second
	// maxAnswer bounds an answer that is not a stream.
	maxAnswer = 64 << 20
)

// ErrNotRunning is what the error of a call that found nobody there is.
var ErrNotRunning = errors.New("breakglass serve is not running")

// notRunning is an ErrNotRunning that says more.
type notRunning string

func (e notRunning) Error() string        { return string(e) }
func (e notRunning) Is(target error) bool { return target == ErrNotRunning }

// Client calls a server. It may be used concurrently.
type Client struct {
	path string
	http *http.Client
}

// Dial connects to the socket at path and checks who listens there: root or the
// caller's own uid, else it is not ours.
func Dial(path string) (*Client, error) {
	c := &Client{path: path}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       10 * time.Second,
		ResponseHeaderTimeout: maxWait + 10*time.Second,
	}}
	conn, err := c.dial(context.Background())
	if err != nil {
		return nil, err
	}
	return c, conn.Close()
}

// Close lets go of connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	if err := checkPath(c.path); err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, c.explain(err)
	}
	p, err := peerOf(conn)
	if own := uint32(os.Geteuid()); err == nil && own != 0 && p.UID != 0 && p.UID != own {
		err = fmt.Errorf("uid %d listens on it, which is neither root nor you (uid %d): do not trust it; name your own with --data-dir", p.UID, own)
	}
	if err != nil {
		_ = conn.Close() // nothing was sent
		return nil, fmt.Errorf("control socket %s: %w", c.path, err)
	}
	return conn, nil
}

// explain says what to do about a connection that cannot be made.
func (c *Client) explain(err error) error {
	dir := filepath.Dir(c.path)
	hint := fmt.Sprintf("is `breakglass serve --data-dir %s` running?", dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return notRunning(fmt.Sprintf("no control socket at %s: %s", c.path, hint))
	case errors.Is(err, syscall.ECONNREFUSED):
		return notRunning(fmt.Sprintf("nobody answers on the control socket %s: %s", c.path, hint))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the control socket %s is not yours: run this as root, or as the user that runs `breakglass serve --data-dir %s`", c.path, dir)
	}
	return fmt.Errorf("control socket %s: %w: %s", c.path, err, hint)
}

// Status of everything.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var out Status
	_, err := c.call(ctx, http.MethodGet, "/v1/status", nil, &out)
	return &out, err
}

// Objects are the manifests in use.
func (c *Client) Objects(ctx context.Context) (*Objects, error) {
	var out Objects
	_, err := c.call(ctx, http.MethodGet, "/v1/objects", nil, &out)
	return &out, err
}

// Activate asks to break the glass and returns the activation as first seen.
func (c *Client) Activate(ctx context.Context, req ActivateRequest) (*v1alpha1.Activation, error) {
	var out v1alpha1.Activation
	_, err := c.call(ctx, http.MethodPost, "/v1/activations", req, &out)
	return &out, err
}

// Revoke closes, and returns what it closed.
func (c *Client) Revoke(ctx context.Context, req RevokeRequest) ([]v1alpha1.Activation, error) {
	var out []v1alpha1.Activation
	_, err := c.call(ctx, http.MethodPost, "/v1/revoke", req, &out)
	return out, err
}

// Review gives a verdict, and returns the activation with it.
func (c *Client) Review(ctx context.Context, req ReviewRequest) (*v1alpha1.Activation, error) {
	var out v1alpha1.Activation
	_, err := c.call(ctx, http.MethodPost, "/v1/review", req, &out)
	return &out, err
}

// Activation as it is now.
func (c *Client) Activation(ctx context.Context, key types.NamespacedName) (*v1alpha1.Activation, error) {
	a, _, err := c.poll(ctx, key, "")
	return a, err
}

// Wait calls done with the activation as it is now and after each change, until
// done returns true. When the context ends first it returns the activation as
// it was last seen, if it was, and the context's error.
func (c *Client) Wait(ctx context.Context, key types.NamespacedName, done func(*v1alpha1.Activation) bool) (*v1alpha1.Activation, error) {
	var last *v1alpha1.Activation
	seen := ""
	for {
		a, tag, err := c.poll(ctx, key, seen)
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return last, err
		}
		if tag != seen && done(a) {
			return a, nil
		}
		last, seen = a, tag
	}
}

func (c *Client) poll(ctx context.Context, key types.NamespacedName, seen string) (*v1alpha1.Activation, string, error) {
	path := "/v1/activations/" + url.PathEscape(key.Namespace) + "/" + url.PathEscape(key.Name)
	if seen != "" {
		path += "?" + url.Values{"seen": {seen}, "wait": {maxWait.String()}}.Encode()
	}
	var out v1alpha1.Activation
	h, err := c.call(ctx, http.MethodGet, path, nil, &out)
	return &out, h.Get("ETag"), err
}

// Timeline calls fn with what happened since then, the oldest first. An answer
// that was cut off is an error.
func (c *Client) Timeline(ctx context.Context, since time.Time, fn func(TimelineEntry) error) error {
	path := "/v1/timeline"
	if !since.IsZero() {
		path += "?" + url.Values{"since": {since.UTC().Format(time.RFC3339Nano)}}.Encode()
	}
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read only
	d := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var l timelineLine
		if err := d.Decode(&l); err != nil {
			return fmt.Errorf("the timeline was cut off: %w", err)
		}
		switch {
		case l.Error != nil:
			return l.Error
		case l.End:
			return nil
		case l.Entry != nil:
			if err := fn(*l.Entry); err != nil {
				return err
			}
		}
	}
}

// call sends in, if there is one, and reads the answer into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket %s: the answer to %s %s: %w", c.path, method, path, err)
	}
	return resp.Header, nil
}

// send returns an answer that is not an error. The host is for HTTP's sake.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://breakglass"+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error // its "Get http://breakglass/..." would only confuse
		if errors.As(err, &u) {
			err = u.Err
		}
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			err = notRunning("breakglass serve went away before it answered on " + c.path)
		}
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // read only
	var wire struct {
		Error *Error `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&wire); err != nil || wire.Error == nil {
		return nil, fmt.Errorf("control socket %s: %s %s: %s", c.path, method, path, resp.Status)
	}
	return nil, wire.Error
}
