package activation

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Who is on call reads a reason and looks it up.
func TestEveryReasonIsInTheDocsOfActivating(t *testing.T) {
	text, err := os.ReadFile("../../docs/activating.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("rules.go")
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`(?m)^\tReason\w+ += "(\w+)"$`).FindAllSubmatch(rules, -1)
	if len(reasons) < 25 {
		t.Fatalf("found only %d reasons in rules.go: are they written in another way?", len(reasons))
	}
	for _, r := range reasons {
		if !strings.Contains(string(text), "\n| `"+string(r[1])+"` | ") {
			t.Errorf("docs/activating.md has no row for %s", r[1])
		}
	}
}
