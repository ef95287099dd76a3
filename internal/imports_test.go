// Package internal_test holds rules about the whole module.
package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/breakglass-gateway/breakglass-gateway/"

var (
	tableRow = regexp.MustCompile("^\\| (`[^|]+`) \\| [^|]+ \\| ([^|]+) \\|$")
	quoted   = regexp.MustCompile("`([^`]+)`")
)

// documented reads the table of docs/architecture.md: which package may import
// which. A nil list: any.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		m := tableRow.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		allowed := []string{}
		if strings.TrimSpace(m[2]) == "any" {
			allowed = nil
		}
		for _, q := range quoted.FindAllStringSubmatch(m[2], -1) {
			allowed = append(allowed, q[1])
		}
		for _, q := range quoted.FindAllStringSubmatch(m[1], -1) {
			out[q[1]] = allowed
		}
	}
	if len(out) < 15 {
		t.Fatalf("read only %d packages from docs/architecture.md: has the table another form?", len(out))
	}
	return out
}

func TestImportsAreAsDocumented(t *testing.T) {
	allowed := documented(t)
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		may, known := allowed[name]
		if !known && !strings.HasPrefix(name, "test/") && name != "internal" {
			t.Errorf("%s is not in the table of docs/architecture.md", name)
			continue
		}
		if may == nil {
			continue
		}
		for _, i := range p.Imports {
			if dep, ours := strings.CutPrefix(i, module); ours && !slices.Contains(may, dep) {
				t.Errorf("%s imports %s, which docs/architecture.md does not allow", name, dep)
			}
		}
	}
}
