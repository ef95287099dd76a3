package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/breakglass-gateway/breakglass-gateway/controller"
	"github.com/breakglass-gateway/breakglass-gateway/controller/config"
	"github.com/breakglass-gateway/breakglass-gateway/internal/engine"
)

func newControllerCommand() *cobra.Command {
	var o controller.Options
	var configFile, kubeconfig, sinks, logFormat, logLevel string
	cmd := &cobra.Command{
		Use:   "controller --config FILE",
		Short: "Control the emergency Gateways of a Kubernetes cluster",
		Long: `Controller watches the emergency GatewayClasses of a cluster, their Gateways and
routes, and runs one fleet of Envoys for each Gateway. The Helm chart installs it.

Two replicas both serve Envoys and hold every deadline; the leader decides what
opens. Without an API server everything that is live goes on, and ends on time.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.DataDir, err = dataDir(cmd); err != nil {
				return err
			}
			if o.Config, err = config.Load(configFile); err != nil {
				return err
			}
			if o.REST, err = restConfig(kubeconfig); err != nil {
				return err
			}
			if o.Namespace, err = releaseNamespace(o.Namespace); err != nil {
				return err
			}
			o.Pod = os.Getenv("POD_NAME")
			stderr := engine.NewLogWriter(os.Stderr)
			defer stderr.Flush()
			if o.Log, err = newLogger(stderr, logFormat, logLevel); err != nil {
				return err
			}
			if o.Sinks, err = loadSinks(sinks); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			syscall.Umask(0o077)
			return controller.Run(ctx, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&configFile, "config", "", "file with the controller's configuration (required)")
	f.StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server (default: the pod's own, else $KUBECONFIG)")
	f.StringVar(&o.Namespace, "namespace", "", "namespace of the release, where the fleets are (default: $POD_NAMESPACE)")
	f.StringVar(&o.XDSAddress, "xds-address", ":18000", "where Envoys come to, with certificates on both sides")
	f.StringVar(&o.MetricsAddress, "metrics-address", ":9102", "address of /metrics, /healthz and /readyz; empty for none")
	f.DurationVar(&o.AuditRetention, "audit-retention", 400*24*time.Hour, "how long entries of the audit log are kept; negative: for ever")
	f.StringVar(&o.AuditOrigin, "audit-origin", "", "first line of the checkpoints of a new audit log (default: breakglass.dev/log/ and a random id)")
	f.StringArrayVar(&o.CheckpointTo, "checkpoint-to", nil, "file, or https URL, that gets each checkpoint of the audit log at once; repeatable")
	f.StringVar(&o.AuditService, "audit-service", "", "HOST:PORT of the audit log service, which gets the log of this replica and those of the fleets; empty for none")
	f.StringVar(&sinks, "sinks", "", "file that says whom alarms go to while the audit log service does not deliver them; without a service, who gets the entries of the audit log; see docs/sinks.md")
	f.StringVar(&logFormat, "log-format", "text", "text or json")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	addDataDirFlag(cmd)
	cobra.CheckErr(cmd.MarkFlagRequired("config"))
	return cmd
}

// restConfig is how to reach an API server: by file, from within a pod, or as
// kubectl does.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		if cfg, err := rest.InClusterConfig(); err == nil {
			return cfg, nil
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server (--kubeconfig): %w", err)
	}
	return cfg, nil
}

// releaseNamespace is where the fleets are.
func releaseNamespace(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if ns := os.Getenv("POD_NAMESPACE"); ns != "" {
		return ns, nil
	}
	text, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return "", usagef("--namespace is missing, and this is not a pod")
	}
	return strings.TrimSpace(string(text)), nil
}
