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
	out  []byte
	err  error
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
		built.path = filepath.Join(dir, "breakglass")
		built.out, built.err = exec.Command("go", "build", "-o", built.path, module+"/cmd/breakglass").CombinedOutput()
	})
	Expect(built.err).NotTo(HaveOccurred(), "build cmd/breakglass: %s", built.out)
	return built.path
}

// RemoveBinary ends what Binary began.
func RemoveBinary() error {
	if built.path == "" {
		return nil
	}
	return os.RemoveAll(filepath.Dir(built.path))
}

// EnvoyPath is the Envoy binary. Without one nothing can be tested, which is a
// failure and no reason to skip.
func EnvoyPath() string {
	GinkgoHelper()
	path := os.Getenv("BREAKGLASS_ENVOY")
	Expect(path).NotTo(BeEmpty(), "BREAKGLASS_ENVOY is not set: run `make test-envoy`")
	return path
}
