package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// systemDataDir is another in a test.
var systemDataDir = "/var/lib/breakglass"

// defaultDataDir is $BREAKGLASS_DATA_DIR, else /var/lib/breakglass for root,
// else ~/.local/state/breakglass. Empty if there is no home directory.
func defaultDataDir() string {
	if dir := os.Getenv("BREAKGLASS_DATA_DIR"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return systemDataDir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "breakglass")
}

const dataDirUsage = "data directory of serve (default: $BREAKGLASS_DATA_DIR, or /var/lib/breakglass for root, or ~/.local/state/breakglass)"

// addDataDirFlag is for commands that own a data directory; see dataDir.
func addDataDirFlag(cmd *cobra.Command) {
	cmd.Flags().String("data-dir", "", dataDirUsage)
	_ = cmd.MarkFlagDirname("data-dir") // the flag is right above
}

// dataDir is the data directory that --data-dir names, or the default.
func dataDir(cmd *cobra.Command) (string, error) {
	dir, err := cmd.Flags().GetString("data-dir")
	if err != nil {
		return "", err
	}
	return orDefaultDataDir(dir)
}

func orDefaultDataDir(dir string) (string, error) {
	if dir == "" {
		dir = defaultDataDir()
	}
	if dir == "" {
		return "", usagef("there is no home directory to keep the data directory in: name it with --data-dir")
	}
	return dir, nil
}

// connection is how a command finds a running serve; see also backend.
type connection struct{ dataDir, socket string }

func (c *connection) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.dataDir, "data-dir", "", dataDirUsage)
	cmd.Flags().StringVar(&c.socket, "socket", "", "control socket of serve (default: control.sock in the data directory)")
	cmd.MarkFlagsMutuallyExclusive("data-dir", "socket")
	_ = cmd.MarkFlagDirname("data-dir") // the flags are right above
	_ = cmd.MarkFlagFilename("socket")
}

// named reports whether somebody has said which serve is meant.
func (c *connection) named() bool {
	return c.dataDir != "" || c.socket != "" || os.Getenv("BREAKGLASS_DATA_DIR") != ""
}

func (c *connection) path() (string, error) {
	if c.socket != "" {
		return c.socket, nil
	}
	dir, err := orDefaultDataDir(c.dataDir)
	if err != nil {
		return "", err
	}
	return control.SocketPath(dir), nil
}

func (c *connection) dial() (*control.Client, error) {
	path, err := c.path()
	if err != nil {
		return nil, err
	}
	return control.Dial(path)
}

// flags as they were given, for a command line that can be pasted.
func (c *connection) flags() string {
	switch {
	case c.socket != "":
		return " --socket " + shellQuote(c.socket)
	case c.dataDir != "":
		return " --data-dir " + shellQuote(c.dataDir)
	}
	return ""
}
