// Package version says what this binary is.
package version

import (
	"fmt"
	"runtime"
)

// Version and Commit are set at link time by the Makefile.
var (
	Version = "dev"
	Commit  = "unknown"
)

// Envoy is the version that this release is tested with;
// hack/tools/versions.env installs it.
const Envoy = "1.40.0"

// String is one line: what it is, of which commit, built by which Go, for
// which Envoy.
func String() string {
	return fmt.Sprintf("breakglass %s (commit %s, %s %s/%s, Envoy %s)",
		Version, Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, Envoy)
}
