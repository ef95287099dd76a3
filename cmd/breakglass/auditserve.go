package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/auditlog"
	"github.com/breakglass-gateway/breakglass-gateway/internal/engine"
)

func newAuditServeCommand() *cobra.Command {
	var o auditlog.Options
	var kubeconfig, sinks, logFormat, logLevel string
	cmd := &cobra.Command{
		Use:   "serve --listen ADDRESS --tls-dir DIR",
		Short: "Keep the audit log of a cluster, which agents and controllers bring theirs to",
		Long: `Serve is the audit log service of a cluster. The Helm chart installs it.

The agent beside each Envoy and each controller bring the entries of their own logs,
and keep them until this one has them on disk: each is in it exactly once, whatever
dies in between. People read it at --read-address, where the API server says who they
are and whether they may; each read is an entry. See docs/collecting.md.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.DataDir, err = dataDir(cmd); err != nil {
				return err
			}
			if o.Reading.Address != "" {
				if o.Reading.REST, err = restConfig(kubeconfig); err != nil {
					return err
				}
				if o.Reading.Namespace, err = releaseNamespace(o.Reading.Namespace); err != nil {
					return err
				}
			}
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
			return auditlog.Run(ctx, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "", "address where logs are brought to, with certificates on both sides")
	f.StringVar(&o.TLSDir, "tls-dir", "", "directory with tls.crt, tls.key and ca.crt, which are read anew for each connection")
	f.StringVar(&o.MetricsAddress, "metrics-address", ":9104", "address of /metrics, /healthz and /readyz; empty for none")
	f.DurationVar(&o.Retention, "audit-retention", 400*24*time.Hour, "how long entries of the audit log are kept; negative: for ever")
	f.StringVar(&o.Origin, "audit-origin", "", "first line of the checkpoints of a new audit log (default: breakglass.dev/log/ and a random id)")
	f.StringArrayVar(&o.CheckpointTo, "checkpoint-to", nil, "file, or https URL, that gets each checkpoint of the audit log at once; repeatable")
	f.StringVar(&sinks, "sinks", "", "file that says who gets the entries of the audit log and its alarms; see docs/sinks.md")
	f.DurationVar(&o.Lost, "lost-after", 10*time.Minute, "how long an agent or a controller may be silent, without having ended, before the log says that it is lost")
	f.StringVar(&o.Reading.Address, "read-address", "", "address where people read the log, whom the API server judges; empty for none")
	f.StringVar(&o.Reading.Namespace, "namespace", "", "namespace of the release, in which readers must be allowed to get auditlogs.breakglass.dev (default: $POD_NAMESPACE)")
	f.StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server (default: the pod's own, else $KUBECONFIG)")
	f.StringVar(&logFormat, "log-format", "text", "text or json")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	addDataDirFlag(cmd)
	for _, name := range []string{"listen", "tls-dir"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}
