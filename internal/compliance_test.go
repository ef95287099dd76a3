package internal_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/internal/report/reporttest"
)

var (
	// A test in docs/compliance.md: `file` `TestName`, or `file` "words of a spec".
	namedTest = regexp.MustCompile("`([a-z/]+_test\\.go)` (?:`((?:Test|Fuzz)[A-Za-z0-9]+)`|\"([^\"]+)\")")
	anyTest   = regexp.MustCompile("_test\\.go`|`(?:Test|Fuzz)[A-Z]")
)

// required are the requirements that the table must have.
var required = []string{"AC-2(2)", "AU-5", "AU-9", "AU-10", "AU-12", "PCI DSS", "A.8.15", "164.312(a)(2)(ii)"}

func TestEachRequirementIsShownByATestThatExists(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "compliance.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Requirements\n")
	rows := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| requirement ") {
			continue
		}
		rows++
		cells := strings.Split(line, " | ")
		if len(cells) != 5 {
			t.Errorf("%d columns: %s", len(cells), line)
			continue
		}
		tests := namedTest.FindAllStringSubmatch(cells[3], -1)
		if len(tests) == 0 {
			t.Errorf("%s: no test shows it", cells[0])
		}
		if parts := strings.Count(cells[3], ";") + 1; parts != len(tests) {
			t.Errorf("%s: %d tests are named, and %d are understood", cells[0], parts, len(tests))
		}
	}
	if rows < len(required) {
		t.Errorf("only %d requirements", rows)
	}
	for _, r := range required {
		if !strings.Contains(table, "| "+r) && !strings.Contains(table, " "+r) {
			t.Errorf("no word of %s", r)
		}
	}
	for _, m := range namedTest.FindAllStringSubmatch(string(text), -1) {
		source, err := os.ReadFile(filepath.Join("..", m[1]))
		if err != nil {
			t.Errorf("%s is named, and does not exist", m[1])
			continue
		}
		want := "func " + m[2] + "("
		if m[3] != "" {
			want = `"` + m[3] + `"`
		}
		if !strings.Contains(string(source), want) {
			t.Errorf("%s has no %s%s", m[1], m[2], m[3])
		}
	}
	if !anyTest.Match(text) {
		t.Error("no test is named at all: has it another form?")
	}
}

// What an auditor does who trusts nothing that we wrote but the verifier of 120 lines
// that he has read: see docs/compliance.md.
func TestALogIsVerifiedWithNothingOfOurs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := reporttest.Incident().Write(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	key, segment := strings.TrimSpace(read("audit.pub")), "segment-00000000000000000000.jsonl"
	kept := filepath.Join(t.TempDir(), "checkpoints")
	if err := os.WriteFile(kept, []byte(read("checkpoint")+"\n"+read("checkpoint")), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(key string) (string, bool) {
		out, err := exec.Command("python3", filepath.Join("..", "docs", "verify-log.py"), dir, key, kept).CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatalf("python3, which reads the log: %v", err)
		}
		return string(out), err == nil
	}
	if out, sound := verify(key); !sound || !strings.HasPrefix(out, "SOUND: ") {
		t.Fatalf("%s", out)
	}
	good, checkpoint := read(segment), read("checkpoint")
	lines := strings.SplitAfter(good, "\n")
	lines[7], lines[8] = lines[8], lines[7]
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, edited := range map[string]string{
		"another name":       strings.Replace(good, "bob@example.com", "rob@example.com", 1),
		"two lines swapped":  strings.Join(lines, ""),
		"the last line gone": strings.Join(lines[:len(lines)-2], ""),
		"a line more":        strings.Join(append(lines[:1:1], lines...), ""),
	} {
		write(segment, edited)
		if out, sound := verify(key); sound {
			t.Errorf("%s: %s", what, out)
		}
	}
	write(segment, good)
	write("checkpoint", strings.Replace(checkpoint, "\n", "\n1", 1))
	if out, sound := verify(key); sound {
		t.Errorf("a checkpoint of another size: %s", out)
	}
	write("checkpoint", checkpoint)
	other := filepath.Join(t.TempDir(), "log")
	if err := reporttest.Incident().Write(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(filepath.Join(other, "audit.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if out, sound := verify(strings.TrimSpace(string(foreign))); sound {
		t.Errorf("another key: %s", out)
	}
}
