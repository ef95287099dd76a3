package version

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestStringNamesEveryPart(t *testing.T) {
	for _, part := range []string{Version, Commit, runtime.Version(), "Envoy " + Envoy} {
		if !strings.Contains(String(), part) {
			t.Errorf("String() = %q does not name %q", String(), part)
		}
	}
}

// The tools file is read by make and sh, the constant by Go: two places, one truth.
func TestEnvoyIsTheInstalledVersion(t *testing.T) {
	const file = "../../hack/tools/versions.env"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nENVOY_VERSION=" + Envoy + "\n"; !strings.Contains(string(b), want) {
		t.Errorf("%s does not say %q: change both together", file, strings.TrimSpace(want))
	}
}
