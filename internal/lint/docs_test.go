package lint

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/internal/golden"
)

// table of the rules, as docs/reviewing.md has it.
func table() string {
	var b strings.Builder
	b.WriteString("| id | severity | name | finds | remedy |\n|---|---|---|---|---|\n")
	for _, r := range Rules() {
		severity := string(r.Severity)
		if r.Live {
			severity += ", live"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.ID, severity, r.Name, r.Summary, r.Remedy)
	}
	return b.String()
}

func TestTheRulesAreAsDocumented(t *testing.T) {
	const path, begin, end = "../../docs/reviewing.md", "<!-- rules: begin -->\n", "<!-- rules: end -->"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(b), begin)
	was, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no marks around the table", path)
	}
	if golden.Updating() {
		if err := os.WriteFile(path, []byte(before+begin+table()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		was = table()
	}
	if was != table() {
		t.Errorf("the table in %s is not that of the rules; run go test ./internal/lint -update and read the diff", path)
	}
}
