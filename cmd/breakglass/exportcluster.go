package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/breakglass-gateway/breakglass-gateway/internal/client"
	"github.com/breakglass-gateway/breakglass-gateway/internal/export"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jumphost"
)

// exportCluster are the flags of an export of a cluster.
type exportCluster struct {
	fromCluster, privateKeys, watch bool
	kubeconfig, context             string
	addresses                       []string
}

func (o *exportCluster) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.fromCluster, "from-cluster", false, "export what a jump host needs of a Kubernetes cluster")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "with --from-cluster: kubeconfig of the cluster (default: as kubectl)")
	f.StringVar(&o.context, "context", "", "with --from-cluster: context of the kubeconfig (default: the current one)")
	f.StringArrayVar(&o.addresses, "address", nil, "with --from-cluster: IP address of the jump host to bind Gateways to; repeatable (default: loopback)")
	f.BoolVar(&o.privateKeys, "with-private-keys", false, "with --from-cluster: export certificates of listeners with their private keys")
	f.BoolVar(&o.watch, "watch", false, "with --from-cluster: keep DIR current until stopped")
	for _, other := range []string{"config", "data-dir", "socket", "without-secrets"} {
		cmd.MarkFlagsMutuallyExclusive("from-cluster", other)
	}
	_ = cmd.MarkFlagFilename("kubeconfig") // the flag is right above
}

// wanted reports whether it is a cluster that is exported.
func (o *exportCluster) wanted(cmd *cobra.Command) (bool, error) {
	for _, flag := range []string{"kubeconfig", "context", "address", "with-private-keys", "watch"} {
		if !o.fromCluster && cmd.Flags().Changed(flag) {
			return false, usagef("--%s goes with --from-cluster: add it", flag)
		}
	}
	for _, a := range o.addresses {
		if _, err := netip.ParseAddr(a); err != nil {
			return false, usagef("--address %q is not an IP address of this host", a)
		}
	}
	return o.fromCluster, nil
}

func (o *exportCluster) run(cmd *cobra.Command, dir string) error {
	ctx, errOut := cmd.Context(), cmd.ErrOrStderr()
	c, err := client.Connect(o.kubeconfig, o.context)
	if err != nil {
		return fmt.Errorf("%w: name one with --kubeconfig", err)
	}
	defer c.Close()
	opts := jumphost.Options{Addresses: o.addresses, PrivateKeys: o.privateKeys}
	w := &clusterWriter{dir: dir, errOut: errOut, quiet: o.watch, wrong: map[string]bool{}}
	if o.watch {
		return w.explain(jumphost.Watch(ctx, jumphost.Watching{
			Config: c.Config, Scheme: c.Scheme, Mapper: c.Mapper, Direct: c.Reader(), Options: opts, Write: w.write, Failed: w.failed,
		}))
	}
	busy := working(errOut, "reading the cluster")
	read, cancel := context.WithTimeout(ctx, time.Minute)
	e, err := jumphost.Read(read, c.Reader(), opts)
	cancel()
	busy.done()
	if err != nil {
		return w.explain(err)
	}
	return w.write(e)
}

// clusterWriter writes exports, and says what there is to say of them once.
type clusterWriter struct {
	dir    string
	errOut io.Writer
	// quiet: an export that changes nothing is no news.
	quiet bool
	told  []string
	wrote bool

	mu    sync.Mutex
	wrong map[string]bool // what was told since all was well
}

func (w *clusterWriter) write(e *jumphost.Export) error {
	told := slices.Clone(e.Told)
	for _, p := range crossCheck(e.Set) {
		told = append(told, "serve says: "+p.Error())
	}
	objects := e.Set.All()
	changed, err := export.Write(w.dir, objects)
	if err != nil {
		return err
	}
	w.mu.Lock()
	clear(w.wrong)
	w.mu.Unlock()
	if !slices.Equal(told, w.told) {
		for _, text := range told {
			w.say("Note: %s", clean(text))
		}
		w.told = told
	}
	if changed || !w.quiet || !w.wrote {
		w.wrote = true
		return sayExported(w.errOut, w.dir, len(objects), changed, "")
	}
	return nil
}

// failed tells each error once until all is well again.
func (w *clusterWriter) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text := w.explain(err).Error(); !w.wrong[text] {
		w.wrong[text] = true
		w.say("Warning: %s: what was exported before stays; trying again", clean(text))
	}
}

func (w *clusterWriter) explain(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w: who exports needs the rights that docs/runbook-api-server-down.md lists", err)
	}
	return err
}

func (w *clusterWriter) say(format string, args ...any) {
	_, _ = fmt.Fprintf(w.errOut, format+"\n", args...) // told as well as it can be
}
