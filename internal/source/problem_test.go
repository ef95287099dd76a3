package source

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/internal/golden"
)

// Each testdata/problems/*.yaml has the problems it must lead to in a .txt.
func TestProblemsNameFileLineObjectFieldAndRemedy(t *testing.T) {
	inputs, err := filepath.Glob("testdata/problems/*.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatal(inputs, err)
	}
	for _, in := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".yaml"), func(t *testing.T) {
			var b strings.Builder
			for _, p := range Load(in).Problems {
				b.WriteString(strings.ReplaceAll(p.Error(), "testdata/problems/", "") + "\n")
			}
			golden.Check(t, strings.TrimSuffix(in, ".yaml")+".txt", []byte(b.String()))
			// What the inputs call their secrets.
			for _, secret := range []string{"hunter2", "20001"} {
				if strings.Contains(b.String(), secret) {
					t.Errorf("a message holds a secret:\n%s", b.String())
				}
			}
		})
	}
	goldens, _ := filepath.Glob("testdata/problems/*.txt")
	if len(goldens) != len(inputs) {
		t.Errorf("%d inputs, %d golden files: remove the orphan", len(inputs), len(goldens))
	}
}

func TestAProblemIsOneLineWhateverAManifestHolds(t *testing.T) {
	p := Problem{File: "a.yaml", Line: 3, Object: "HTTPRoute a/b", Field: "x\ny", Message: "m\x1b[31m\r\n" + strings.Repeat("é", 2000), Remedy: "r", LastGood: true}
	got := p.Error()
	if strings.ContainsAny(got, "\n\r\x1b") || len(got) > 3*maxText {
		t.Errorf("%q", got)
	}
	if !strings.HasPrefix(got, "a.yaml:3: HTTPRoute a/b: x y: m?[31m") || !strings.HasSuffix(got, "...: r (the last good version stays in use)") {
		t.Errorf("%q", got)
	}
}
