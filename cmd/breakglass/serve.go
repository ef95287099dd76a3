package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
	"github.com/breakglass-gateway/breakglass-gateway/internal/engine"
	"github.com/breakglass-gateway/breakglass-gateway/internal/serve"
)

func newServeCommand() *cobra.Command {
	var o serve.Options
	var logFormat, logLevel, sinks string
	var heapMiB uint64
	cmd := &cobra.Command{
		Use:   "serve --config DIR [--data-dir DIR]",
		Short: "Serve a directory of break-glass manifests, without a cluster",
		Long: `Serve reads every .yaml, .yml and .json file below the configuration directory,
watches it, and runs one Envoy per Gateway. Routes are dormant until an
Activation opens them.

What must survive a restart (windows, spent names, the journal) is kept in the
data directory, never in the configuration. SIGTERM and SIGINT close everything
in order. If serve is killed instead, Envoy goes on and keeps every deadline,
and the next serve on the same data directory adopts it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.DataDir, err = dataDir(cmd); err != nil {
				return err
			}
			if err := apart(o.ConfigDir, o.DataDir); err != nil {
				return err
			}
			stderr := engine.NewLogWriter(os.Stderr)
			defer stderr.Flush()
			if o.Log, err = newLogger(stderr, logFormat, logLevel); err != nil {
				return err
			}
			if o.Sinks, err = loadSinks(sinks); err != nil {
				return err
			}
			if o.DeadmanArgs, err = deadmanArgs(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			if o.MaxConnections < 1 || heapMiB < 64 || heapMiB > 1<<20 {
				return usagef("--envoy-max-connections must be at least 1, and --envoy-max-heap from 64 to %d", 1<<20)
			}
			o.MaxHeapBytes = heapMiB << 20
			syscall.Umask(0o077)
			return serve.Run(ctx, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.ConfigDir, "config", "", "directory of manifests (required)")
	f.StringVar(&o.EnvoyPath, "envoy", "", "Envoy 1.40 binary (default: $BREAKGLASS_ENVOY, then envoy in PATH)")
	f.IntVar(&o.Concurrency, "envoy-concurrency", 0, "Envoy's worker threads (default: the number of CPUs, at most 4)")
	f.IntVar(&o.MaxConnections, "envoy-max-connections", 5000, "connections of clients that one Envoy takes; at most 4000 of them on one listener")
	f.Uint64Var(&heapMiB, "envoy-max-heap", 1024, "memory of one Envoy in MiB, above 95 % of which it refuses requests; at least 64")
	f.StringVar(&o.MetricsAddress, "metrics-address", "127.0.0.1:9102", "loopback address of /metrics, /healthz and /readyz; empty for none")
	f.DurationVar(&o.AuditRetention, "audit-retention", 400*24*time.Hour, "how long entries of the audit log are kept; negative: for ever")
	f.StringVar(&o.AuditOrigin, "audit-origin", "", "first line of the checkpoints of a new audit log (default: breakglass.dev/log/ and a random id)")
	f.StringArrayVar(&o.CheckpointTo, "checkpoint-to", nil, "file, or https URL, that gets each checkpoint of the audit log at once; repeatable")
	f.StringVar(&sinks, "sinks", "", "file that says who gets the entries of the audit log and its alarms; see docs/sinks.md")
	f.StringVar(&logFormat, "log-format", "text", "text or json")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	addDataDirFlag(cmd)
	cobra.CheckErr(cmd.MarkFlagRequired("config"))
	return cmd
}

// loadSinks reads the file of --sinks; nil: there is none.
func loadSinks(file string) (*sink.Config, error) {
	if file == "" {
		return nil, nil
	}
	c, err := sink.Load(file)
	if err != nil {
		return nil, usageError{err}
	}
	return &c, nil
}

// apart refuses a data directory that would be read as manifests: what serve
// writes there is not what somebody reviewed.
func apart(config, data string) error {
	if !isBelow(config, data) {
		return nil
	}
	return usagef("--data-dir %s is inside --config %s, and what serve writes there would be read as manifests: name a directory outside of it", data, config)
}

// isBelow reports whether dir is the directory above, or somewhere below it.
func isBelow(above, dir string) bool {
	rel, err := filepath.Rel(realPath(above), realPath(dir))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// realPath is path without symbolic links, as far as it exists.
func realPath(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return filepath.Clean(path)
	}
	for dir, rest := abs, ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		if dir == filepath.Dir(dir) {
			return abs
		}
	}
}

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", format)
}

// deadmanArgs is this very binary, as the process that ends an orphaned Envoy.
func deadmanArgs() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, which must start its deadman: %w", err)
	}
	return []string{self, "deadman", "--dir"}, nil
}
