package testbed

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

const module = "github.com/breakglass-gateway/breakglass-gateway"

// built is the binary, made once per suite.
var built struct {
	once sync.Once
	path string
	// dir is of this process alone, and removed in the end. It is empty if somebody
	// else made the binary.
	dir string
	out []byte
	err error
}

// Binary is the breakglass binary of this source tree, or the one that
// BREAKGLASS_BINARY names, such as a release.
func Binary() string {
	GinkgoHelper()
	if path := os.Getenv("BREAKGLASS_BINARY"); path != "" {
		return path
	}
	built.once.Do(func() {
		dir, err := os.MkdirTemp("", "bg-bin-")
		if err != nil {
			built.err = err
			return
		}
		// Others may run it: the control socket is tried as another uid.
		if built.err = os.Chmod(dir, 0o755); built.err != nil {
			return
		}
		built.dir, built.path = dir, filepath.Join(dir, "breakglass")
		built.out, built.err = exec.Command("go", "build", "-o", built.path, module+"/cmd/breakglass").CombinedOutput()
	})
	Expect(built.err).NotTo(HaveOccurred(), "build cmd/breakglass: %s", built.out)
	return built.path
}

// UseBinary has Binary return what another process of a parallel suite has
// built.
func UseBinary(path string) {
	built.once.Do(func() { built.path = path })
}

// Steppable is a binary of the same source whose wall clock StepClock can set. It
// goes with the spec.
func Steppable() string {
	GinkgoHelper()
	path := filepath.Join(GinkgoT().TempDir(), "breakglass")
	out, err := exec.Command("go", "build", "-tags", "clockstep", "-o", path, module+"/cmd/breakglass").CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "build cmd/breakglass: %s", out)
	return path
}

// RemoveBinary removes what Binary has built, and nothing else.
func RemoveBinary() error {
	if built.dir == "" {
		return nil
	}
	return os.RemoveAll(built.dir)
}

// EnvoyPath is the Envoy binary. Without one nothing can be tested, which is a
// failure and no reason to skip.
func EnvoyPath() string {
	GinkgoHelper()
	path := os.Getenv("BREAKGLASS_ENVOY")
	Expect(path).NotTo(BeEmpty(), "BREAKGLASS_ENVOY is not set: run `make test-envoy`")
	return path
}
