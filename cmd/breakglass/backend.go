package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/client"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// backend is how a command finds what opens doors: a running serve, or the
// controller of a cluster.
type backend struct {
	connection
	kubeconfig, context string
}

const backendLong = `

It asks the serve of --data-dir (or $BREAKGLASS_DATA_DIR), or the cluster of
--kubeconfig or --context. If none is named it asks the serve that runs here, and
if none does, the cluster that kubectl would; it says which.`

func (b *backend) addFlags(cmd *cobra.Command) {
	b.connection.addFlags(cmd)
	cmd.Flags().StringVar(&b.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster to ask (default: as kubectl)")
	cmd.Flags().StringVar(&b.context, "context", "", "context of the kubeconfig (default: the current one)")
	for _, serve := range []string{"data-dir", "socket"} {
		for _, cluster := range []string{"kubeconfig", "context"} {
			cmd.MarkFlagsMutuallyExclusive(serve, cluster)
		}
	}
	_ = cmd.MarkFlagFilename("kubeconfig") // the flag is right above
}

// open finds it. Which one it is, if nobody has said, is told on errOut.
func (b *backend) open(errOut io.Writer) (client.Client, error) {
	if b.kubeconfig != "" || b.context != "" {
		return b.cluster()
	}
	path, err := b.path()
	if err != nil {
		return nil, err
	}
	c, notServing := client.Serve(path)
	if b.named() {
		return c, notServing
	}
	if errors.Is(notServing, control.ErrNotRunning) {
		if c, err = b.cluster(); errors.Is(err, client.ErrNoCluster) {
			return nil, fmt.Errorf("there is nobody to ask: %w; and %w: name a serve with --data-dir, or a cluster with --kubeconfig", notServing, err)
		}
	} else if err = notServing; err != nil {
		return nil, fmt.Errorf("%w; for a cluster say --context", err)
	}
	if err == nil {
		info := c.Info()
		_, _ = fmt.Fprintf(errOut, "Asking %s: %s\n", info.Server, clean(info.Where)) // a courtesy
	}
	return c, err
}

// cluster is nil, and not a client that is nil, if there is none.
func (b *backend) cluster() (client.Client, error) {
	c, err := client.Connect(b.kubeconfig, b.context)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// flags as they were given, for a command line that can be pasted.
func (b *backend) flags() string {
	text := ""
	if b.kubeconfig != "" {
		text += " --kubeconfig " + shellQuote(b.kubeconfig)
	}
	if b.context != "" {
		text += " --context " + shellQuote(b.context)
	}
	return cmp.Or(text, b.connection.flags())
}
