package jwks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Defaults of RemoteJWKS, for objects that did not go through the CRD.
const (
	defaultRefresh  = 5 * time.Minute
	defaultTimeout  = 5 * time.Second
	defaultMaxStale = 24 * time.Hour
)

// Source is a remote key set and the algorithms its issuer may use.
type Source struct {
	v1alpha1.RemoteJWKS
	Algorithms []v1alpha1.Algorithm
}

// Fetch gets the key set once: over https, from the URI itself and no redirect,
// without a proxy, at most MaxBytes, within src.Timeout. It returns the body as
// it came, too. Errors name the URI without its query, what is wrong and what to
// do; they never quote the body.
func Fetch(ctx context.Context, src Source) (*Set, []byte, error) {
	u, err := parseURI(src.URI)
	if err != nil {
		return nil, nil, err
	}
	body, err := get(ctx, u, src)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", shown(u), explain(err, src))
	}
	set, err := Parse(body, src.Algorithms)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", shown(u), err)
	}
	return set, body, nil
}

// shown is a URI without what may be a secret of the query.
func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func parseURI(uri string) (*url.URL, error) {
	u, err := url.Parse(uri)
	if err != nil {
		// The error of net/url quotes the URI.
		return nil, errors.New("jwks.remote.uri is not a URI: write https://host/path")
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, fmt.Errorf("%s: jwks.remote.uri must be https://host/path, without a user name", shown(u))
	}
	return u, nil
}

func get(ctx context.Context, u *url.URL, src Source) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, v1alpha1.PositiveOr(src.Timeout, defaultTimeout))
	defer cancel()
	client, err := newClient(src)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("jwks.remote.uri is not a URI: write https://host/path")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "breakglass-gateway")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return nil, fmt.Errorf("answered %d, a redirect, which is not followed: set jwks.remote.uri to the final address", resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d: jwks.remote.uri must answer 200 with the key set, without credentials", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBytes+1))
	if err != nil {
		return nil, err
	}
	// A server that sees us hang up can still end its answer properly, and half an
	// answer would look like a whole one.
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(body) > MaxBytes {
		return nil, fmt.Errorf("the answer is larger than %d KiB: this is not a key set, or publish only the keys in use", MaxBytes>>10)
	}
	return body, nil
}

func newClient(src Source) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if src.CACertificates != nil {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(*src.CACertificates)) {
			return nil, errors.New("jwks.remote.caCertificates holds no certificate: it must be PEM, -----BEGIN CERTIFICATE-----")
		}
	}
	dialer := &net.Dialer{}
	if !src.AllowLocalTargets {
		dialer.Control = controlDial
	}
	return &http.Client{
		// A redirect could lead anywhere; its answer is judged like any other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			// A proxy would dial for us, and the environment is not the policy's.
			Proxy:                  nil,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        conf,
			DisableKeepAlives:      true,
			DisableCompression:     true, // MaxBytes bounds what is read, not what it unpacks to
			MaxResponseHeaderBytes: 16 << 10,
		},
	}, nil
}

// explain strips net/http's wrapping, which quotes the URI with its query, and
// adds the remedy.
func explain(err error, src Source) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		dns       *net.DNSError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, errLocalTarget):
		return fmt.Errorf("%w: use another address, or set jwks.remote.allowLocalTargets: true", err)
	case errors.As(err, &authority):
		return fmt.Errorf("%w: set jwks.remote.caCertificates to the CA of this server", err)
	case errors.As(err, &hostname), errors.As(err, &invalid):
		return fmt.Errorf("%w: the server's certificate must be valid for the host of jwks.remote.uri", err)
	case errors.As(err, &dns):
		return fmt.Errorf("%w: check the host of jwks.remote.uri and this host's DNS", err)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no complete answer within %s: check the server, or raise jwks.remote.timeout", v1alpha1.PositiveOr(src.Timeout, defaultTimeout))
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return errors.New("does not speak TLS: jwks.remote.uri must lead to an https server")
	}
	return err
}
