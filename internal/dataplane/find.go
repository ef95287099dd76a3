package dataplane

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/internal/version"
)

// Find returns the path of an Envoy binary: the explicit one, else
// $BREAKGLASS_ENVOY, else envoy in $PATH, else where `make envoy` installs it
// below the working directory or $BREAKGLASS_CACHE. A path that was asked for
// and is not executable is an error, never a reason to look elsewhere.
func Find(explicit string) (string, error) {
	for _, asked := range []struct{ by, path string }{
		{"--envoy", explicit},
		{"BREAKGLASS_ENVOY", os.Getenv("BREAKGLASS_ENVOY")},
	} {
		if asked.path == "" {
			continue
		}
		path, err := exec.LookPath(asked.path)
		if err != nil {
			return "", fmt.Errorf("envoy as named by %s: %w", asked.by, err)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return filepath.Abs(path)
	}
	cache := os.Getenv("BREAKGLASS_CACHE")
	if cache == "" {
		cache = ".cache"
	}
	path := filepath.Join(cache, "tools", "envoy-"+version.Envoy, "envoy")
	if _, err := exec.LookPath(path); err != nil {
		return "", fmt.Errorf("no Envoy found: not in $PATH and not at %s: run `make envoy`, or name one with --envoy or BREAKGLASS_ENVOY", path)
	}
	return filepath.Abs(path)
}

// Version asks a binary for its version, such as "1.40.0". A version other
// than the one this release is tested with comes with a warning: it may work.
func Version(ctx context.Context, path string) (version, warning string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", "", fmt.Errorf("%s --version: %w: is it an Envoy for this machine?", path, err)
	}
	return parseVersion(path, string(out))
}

// parseVersion reads "…/envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL".
func parseVersion(path, out string) (found, warning string, err error) {
	_, rest, ok := strings.Cut(out, "version: ")
	parts := strings.Split(strings.TrimSpace(rest), "/")
	if !ok || len(parts) < 3 {
		return "", "", fmt.Errorf("%s is not an Envoy: --version says %.100q", path, strings.TrimSpace(out))
	}
	found = parts[1]
	if minor := version.Envoy[:strings.LastIndexByte(version.Envoy, '.')+1]; !strings.HasPrefix(found, minor) {
		warning = fmt.Sprintf("%s is Envoy %s; this release is tested with %s only: deadlines and locks are not proven on another",
			path, found, version.Envoy)
	}
	return found, warning, nil
}
