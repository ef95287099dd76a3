package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
)

// newEnvoyCommand is the main process of the Envoy container in the pods that the
// controller makes. It is not for people.
func newEnvoyCommand() *cobra.Command {
	var c dataplane.Container
	var runDir, logFormat, logLevel string
	var heapMiB uint64
	cmd := &cobra.Command{
		Use:    "envoy",
		Short:  "Run the Envoy of a pod",
		Hidden: true,
		Args:   noArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			if err := checkGateway(c.Gateway); err != nil {
				return err
			}
			if c.Concurrency < 1 || c.MaxConnections < 1 || heapMiB < 64 || heapMiB > 1<<20 {
				return usagef("--concurrency and --max-connections must be at least 1, and --max-heap from 64 to %d", 1<<20)
			}
			c.MaxHeapBytes = heapMiB << 20
			var err error
			if c.Log, err = newLogger(os.Stderr, logFormat, logLevel); err != nil {
				return err
			}
			if c.RunDir, c.AuditDir, err = podDirs(runDir, c.AuditDir); err != nil {
				return err
			}
			syscall.Umask(0o077)
			drain, stop, end := twoSignals()
			defer end()
			return c.Run(drain, stop)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Gateway, "gateway", "", "NAMESPACE/NAME of the Gateway")
	f.StringVar(&runDir, "run-dir", "", "directory shared with the agent of this pod")
	f.StringVar(&c.AuditDir, "audit-dir", "", "directory of the spool of this pod")
	f.StringVar(&c.EnvoyPath, "envoy", "/usr/local/bin/envoy", "Envoy 1.40 binary")
	f.IntVar(&c.Concurrency, "concurrency", 2, "worker threads")
	f.IntVar(&c.MaxConnections, "max-connections", 5000, "connections of clients")
	f.Uint64Var(&heapMiB, "max-heap", 1024, "memory in MiB, above 95 % of which requests are refused; at least 64")
	f.DurationVar(&c.DrainLeast, "drain-least", 10*time.Second, "how long Envoy goes on after SIGTERM at the least")
	f.DurationVar(&c.DrainMost, "drain-most", 5*time.Minute, "how long it waits for requests that are under way")
	f.StringVar(&logFormat, "log-format", "json", "text or json")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	for _, name := range []string{"gateway", "run-dir", "audit-dir"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}

// twoSignals: the first asks for an end in order, the second for one at once.
func twoSignals() (first, second context.Context, end func()) {
	first, cancelFirst := context.WithCancel(context.Background())
	second, cancelSecond := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		for _, cancel := range []func(){cancelFirst, cancelSecond} {
			select {
			case <-signals:
				cancel()
			case <-second.Done():
			}
		}
	}()
	return first, second, func() {
		signal.Stop(signals)
		cancelFirst()
		cancelSecond()
	}
}

func checkGateway(name string) error {
	if namespace, gateway, ok := strings.Cut(name, "/"); !ok || namespace == "" || gateway == "" || strings.Contains(gateway, "/") {
		return usagef("--gateway %q: not NAMESPACE/NAME", name)
	}
	return nil
}

func podDirs(run, audit string) (dataplane.RunDir, string, error) {
	run, err := filepath.Abs(run)
	if err == nil {
		audit, err = filepath.Abs(audit)
	}
	return dataplane.RunDir(run), audit, err
}

// newInstallSelfCommand brings this program to where the Envoy container, whose
// image does not have it, finds it.
func newInstallSelfCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:    "install-self",
		Short:  "Copy this program into a directory",
		Hidden: true,
		Args:   noArgs,
		RunE:   func(*cobra.Command, []string) error { return installSelf(to) },
	}
	cmd.Flags().StringVar(&to, "to", "", "directory")
	cobra.CheckErr(cmd.MarkFlagRequired("to"))
	return cmd
}

// installSelf replaces the copy as a whole: a container that is started anew may
// be executing the one before.
func installSelf(dir string) error {
	fail := func(err error) error { return fmt.Errorf("copy this program to %s: %w", dir, err) }
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return fail(err)
	}
	defer from.Close()
	to, err := os.CreateTemp(dir, ".breakglass.*")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(to.Name()) // gone by then, if all is well
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Chmod(0o755)
	}
	if closeErr := to.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(to.Name(), filepath.Join(dir, "breakglass"))
	}
	if err != nil {
		return fail(err)
	}
	return nil
}
