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
	f.DurationVar(&o.AuditRetention, "audit-retention", 400*24*time.Hour, "how long entries of the audit log are kept; negative: for ever")
	f.StringVar(&logFormat, "log-format", "json", "text or json")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	for _, name := range []string{"gateway", "pod", "run-dir", "audit-dir", "tls-dir", "controller"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}
