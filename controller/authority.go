package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
	"github.com/breakglass-gateway/breakglass-gateway/controller/fleet"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
)

// authorityName is the Secret of the CA.
const authorityName = "breakglass-ca"

// authority is the CA as this replica knows it, and its own certificate. The
// leader makes and rotates the CA, everybody reads it.
type authority struct {
	client    client.Client // not cached
	log       *slog.Logger
	now       func() time.Time
	leads     func() bool
	changed   func()
	namespace string
	server    pki.Subject
	self      pki.Subject // as a client of the audit log service
	file      string      // a copy, for a start without an API server

	mu      sync.Mutex
	ca      *pki.Authority
	data    map[string][]byte // of the server's leaf
	leaf    *tls.Certificate
	trusted *x509.CertPool
	own     map[string][]byte // of the leaf as a client
}

func newAuthority(o Options, now func() time.Time, leads func() bool) *authority {
	return &authority{
		log: o.Log, now: now, leads: leads, namespace: o.Namespace, server: pki.Server(ServiceName + "." + o.Namespace + ".svc"),
		self: pki.ControllerClient(o.Namespace, strings.ToLower(o.identity())),
		file: filepath.Join(o.DataDir, "authority.json"),
	}
}

// state is what a handshake needs.
func (a *authority) state() (*tls.Certificate, *x509.CertPool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leaf, a.trusted
}

// clientTLS is how this replica connects to the audit log service, which has that
// name in its certificate. It is asked for each connection.
func (a *authority) clientTLS(serverName string) (*tls.Config, error) {
	a.mu.Lock()
	own := a.own
	a.mu.Unlock()
	if own == nil {
		return nil, errNoAuthority
	}
	return pki.ClientConfig(own, serverName)
}

// current is the CA, nil if it is not known yet.
func (a *authority) current() *pki.Authority {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ca
}

// run keeps the CA and the own certificate current until ctx ends.
func (a *authority) run(ctx context.Context) {
	const soon, later = 200 * time.Millisecond, 30 * time.Second
	failed := false
	for {
		wait := later
		err := a.refresh(ctx)
		if err != nil {
			wait = soon
			if !failed && !errors.Is(err, errNoAuthority) {
				a.log.Warn("cannot read or write the CA; trying again", "error", err)
			}
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

var errNoAuthority = errors.New("there is no CA yet")

// refresh reads the Secret, and writes it if this replica leads and it is to
// change.
func (a *authority) refresh(ctx context.Context) error {
	var secret corev1.Secret
	err := a.client.Get(ctx, types.NamespacedName{Namespace: a.namespace, Name: authorityName}, &secret)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	var known *pki.Authority
	if err == nil {
		if known, err = pki.ParseAuthority(secret.Data); err != nil {
			return fmt.Errorf("Secret %s/%s: %w: delete it to have a new CA", a.namespace, authorityName, err)
		}
	}
	if !a.leads() {
		if known == nil {
			return errNoAuthority
		}
		return a.use(known)
	}
	next, changed, err := known.Rotate(a.now())
	if err != nil {
		return err
	}
	if changed {
		if err := a.store(ctx, &secret, next); err != nil {
			return err
		}
	}
	return a.use(next)
}

// store writes the CA. A conflict means that another replica was faster.
func (a *authority) store(ctx context.Context, secret *corev1.Secret, ca *pki.Authority) error {
	data, err := ca.Data()
	if err != nil {
		return err
	}
	exists := secret.UID != ""
	secret.Data = data
	if exists {
		return a.client.Update(ctx, secret)
	}
	secret.ObjectMeta = metav1.ObjectMeta{Namespace: a.namespace, Name: authorityName, Labels: map[string]string{fleet.LabelManagedBy: fleet.ManagedBy}}
	secret.Type = corev1.SecretTypeTLS
	if err := a.client.Create(ctx, secret); !apierrors.IsAlreadyExists(err) {
		return err
	}
	return errNoAuthority
}

// use makes ca the one that is in use.
func (a *authority) use(ca *pki.Authority) error {
	a.mu.Lock()
	fresh := ca.Fresh(a.data, a.server, a.now())
	a.mu.Unlock()
	if fresh {
		return nil
	}
	data, err := ca.Issue(a.server, a.now())
	if err != nil {
		return err
	}
	leaf, err := pki.KeyPair(data)
	if err != nil {
		return err
	}
	// It is as old as the other one, and so renewed with it.
	own, err := ca.Issue(a.self, a.now())
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.ca, a.data, a.leaf, a.trusted, a.own = ca, data, leaf, ca.Pool(), own
	a.mu.Unlock()
	a.log.Info("a new certificate is in use", "until", leaf.Leaf.NotAfter)
	a.changed()
	return a.save(ca)
}

func (a *authority) save(ca *pki.Authority) error {
	data, err := ca.Data()
	if err != nil {
		return err
	}
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return durable.Replace(a.file, text)
}

// restore takes the copy, if there is one, when the API server cannot be asked.
func (a *authority) restore() error {
	text, err := os.ReadFile(a.file)
	if err != nil {
		return err
	}
	var data map[string][]byte
	if err := json.Unmarshal(text, &data); err != nil {
		return fmt.Errorf("%s: %w", a.file, err)
	}
	ca, err := pki.ParseAuthority(data)
	if err != nil {
		return fmt.Errorf("%s: %w", a.file, err)
	}
	return a.use(ca)
}
