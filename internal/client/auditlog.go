package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// Of the audit log service in the namespace of a release.
const (
	// ReleaseNamespace is where the documentation has the chart installed.
	ReleaseNamespace = "breakglass-system"

	auditService = "breakglass-audit"
	auditPod     = auditService + "-0"
	auditTrust   = auditService + "-ca"
	auditRole    = "breakglass-auditor"
	// auditPort of the pod answers readers, on its loopback alone.
	auditPort = "18002"
)

// AuditLog is the log of a cluster, read over its audit log service. Every read is
// an entry of that log.
type AuditLog struct {
	cluster   *Cluster
	namespace string
	http      *http.Client
	close     func()
}

// AuditLog is the way to the audit log service of the release in a namespace: TLS,
// with the service at the other end, through a port-forward by the API server. Who
// asks is whom the kubeconfig makes him, by its certificate or its token.
func (c *Cluster) AuditLog(ctx context.Context, namespace string) (*AuditLog, error) {
	ask, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var trust corev1.ConfigMap
	if err := c.objects.Get(ask, types.NamespacedName{Namespace: namespace, Name: auditTrust}, &trust); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, control.Errorf(control.NotFound, "there is no audit log service in namespace %s: name that of the release with --release-namespace, or install the chart with audit.service.enabled", namespace)
		}
		return nil, c.explain(err, "read the audit log", namespace, auditRole)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(trust.Data["ca.crt"])) {
		return nil, control.Errorf(control.Internal, "ConfigMap %s/%s has no certificates in ca.crt: delete it, and the controller makes another", namespace, auditTrust)
	}
	forward, err := c.forward(namespace, auditPod, auditPort)
	if err != nil {
		return nil, err
	}
	conf, err := rest.TLSConfigFor(c.Config) // the certificate of whoever asks, also by a plugin
	if err != nil {
		return nil, fmt.Errorf("reach the cluster %s: %w", c.info.Where, err)
	}
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.MinVersion, conf.RootCAs, conf.InsecureSkipVerify, conf.NextProtos = tls.VersionTLS13, roots, false, nil
	conf.ServerName = auditService + "." + namespace + ".svc"
	transport := &http.Transport{DialContext: forward.dial, TLSClientConfig: conf, DisableCompression: true}
	wrapped, err := rest.HTTPWrappersForConfig(c.Config, transport) // the token
	if err != nil {
		return nil, fmt.Errorf("reach the cluster %s: %w", c.info.Where, err)
	}
	return &AuditLog{cluster: c, namespace: namespace, http: &http.Client{Transport: wrapped}, close: transport.CloseIdleConnections}, nil
}

// Close lets go of the connection.
func (a *AuditLog) Close() { a.close() }

// Entries of the log that fit the query, in order. See docs/collecting.md for what can
// be asked for.
func (a *AuditLog) Entries(ctx context.Context, query url.Values, fn func(merkle.Entry) error) error {
	body, err := a.get(ctx, "/v1/entries", query)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewReaderSize(body, 256<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return a.brokeOff(ctx, err)
		}
		if why, is := failureOf(line); is {
			return control.Errorf(control.Unavailable, "the audit log service of %s went no further: %s", a.namespace, why)
		}
		var e merkle.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("the audit log service of %s sent a line that is no entry: %w", a.namespace, err)
		}
		if err := fn(e); err != nil {
			return err
		}
	}
}

// Proof of an entry.
func (a *AuditLog) Proof(ctx context.Context, seq uint64) (*merkle.Proof, error) {
	body, err := a.get(ctx, "/v1/proof", url.Values{"seq": {fmt.Sprint(seq)}})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var p merkle.Proof
	if err := json.NewDecoder(body).Decode(&p); err != nil {
		return nil, a.brokeOff(ctx, err)
	}
	return &p, nil
}

// get returns what the service hands out.
func (a *AuditLog) get(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	u := url.URL{Scheme: "https", Host: auditService + "." + a.namespace + ".svc", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.unreachable(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, a.brokeOff(ctx, err)
	}
	why, _ := failureOf(text)
	return nil, control.Errorf(codes[resp.StatusCode], "the audit log service of %s: %s", a.namespace, why)
}

var codes = map[int]control.Code{
	http.StatusUnauthorized: control.Forbidden, http.StatusForbidden: control.Forbidden, http.StatusNotFound: control.NotFound,
	http.StatusTooManyRequests: control.Unavailable, http.StatusServiceUnavailable: control.Unavailable,
	http.StatusConflict: control.Refused, http.StatusGone: control.Refused, http.StatusBadRequest: control.Invalid,
}

// failureOf is what the service says instead of an answer, or at its end.
func failureOf(text []byte) (string, bool) {
	if !bytes.HasPrefix(text, []byte(`{"error":`)) {
		return fmt.Sprintf("%.200q", text), false
	}
	var f struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return err.Error(), true
	}
	return f.Error, true
}

func (a *AuditLog) brokeOff(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return control.Errorf(control.Unavailable, "the connection to the audit log service of %s broke off: %v: try again", a.namespace, err)
}

// unreachable says why no answer came.
func (a *AuditLog) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var certificate *tls.CertificateVerificationError
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &certificate):
		return control.Errorf(control.Unavailable, "whoever answers as the audit log service of %s is not known by the ConfigMap %s: %v: if that lasts, find out who has changed which", a.namespace, auditTrust, certificate)
	case errors.As(err, &status):
		return a.cluster.explain(err, "read the audit log", a.namespace, auditRole)
	}
	return control.Errorf(control.Unavailable, "the audit log service of %s cannot be reached: %v: does its pod %s run?", a.namespace, err, auditPod)
}
