package main

import (
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/agent"
)

// shippedRetention is how long a pod keeps entries that the audit log service has.
const shippedRetention = 24 * time.Hour

// newAgentCommand runs next to Envoy in the pods that the controller makes. It is
// not for people.
func newAgentCommand() *cobra.Command {
	var o agent.Options
	var runDir, logFormat, logLevel string
	cmd := &cobra.Command{
		Use:    "agent",
		Short:  "Connect the Envoy of a pod to the controller, and keep its audit log",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkGateway(o.Gateway); err != nil {
				return err
			}
			if o.Pod == "" || strings.Contains(o.Pod, "/") {
				return usagef("--pod %q: name this pod", o.Pod)
			}
			host, _, err := net.SplitHostPort(o.Controller)
			if err != nil {
				return usagef("--controller %q: not HOST:PORT", o.Controller)
			}
			if o.ServerName == "" {
				o.ServerName = host
			}
			if o.AuditService != "" {
				if _, _, err := net.SplitHostPort(o.AuditService); err != nil {
					return usagef("--audit-service %q: not HOST:PORT", o.AuditService)
				}
				if !cmd.Flags().Changed("audit-retention") {
					o.AuditRetention = shippedRetention
				}
			}
			if o.Log, err = newLogger(os.Stderr, logFormat, logLevel); err != nil {
				return err
			}
			if o.RunDir, o.AuditDir, err = podDirs(runDir, o.AuditDir); err != nil {
				return err
			}
			syscall.Umask(0o077)
			return agent.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Gateway, "gateway", "", "NAMESPACE/NAME of the Gateway")
	f.StringVar(&o.Pod, "pod", "", "name of this pod")
	f.StringVar(&runDir, "run-dir", "", "directory shared with the Envoy of this pod")
	f.StringVar(&o.AuditDir, "audit-dir", "", "directory of the spool and the audit log of this pod")
	f.StringVar(&o.TLSDir, "tls-dir", "", "directory with tls.crt, tls.key and ca.crt")
	f.StringVar(&o.Controller, "controller", "", "HOST:PORT of the controller; all addresses of the host are tried")
	f.StringVar(&o.ServerName, "server-name", "", "name in the controller's certificate (default: HOST)")
	f.StringVar(&o.MetricsAddress, "metrics-address", "0.0.0.0:9103", "address of /metrics, /healthz and /readyz; empty for none")
	f.StringVar(&o.AuditService, "audit-service", "", "HOST:PORT of the audit log service, which gets the entries of this pod; empty for none")
	f.StringVar(&o.AuditServerName, "audit-server-name", "", "name in the certificate of the audit log service (default: HOST)")
	f.DurationVar(&o.AuditRetention, "audit-retention", 400*24*time.Hour, "how long entries of the audit log are kept, with --audit-service 24h by default, and no entry goes before that has it; negative: for ever")
	f.StringVar(&logFormat, "log-format", "json", "text or json")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	for _, name := range []string{"gateway", "pod", "run-dir", "audit-dir", "tls-dir", "controller"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}
