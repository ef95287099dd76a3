package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
)

func TestVerifyComparesTheLogWithACopyThatASinkMade(t *testing.T) {
	dir, copied := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "copy.jsonl")
	logAt(t, dir, 1, 2, 3, 4)
	note, err := merkle.Checkpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	origin, size, _, err := merkle.CheckpointHead(note)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, merkle.SegmentFile(0)))
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := json.Marshal(sink.Checkpoint{V: 1, Kind: sink.KindCheckpoint, Log: origin, Size: size, Checkpoint: string(note)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, append(text, append(checkpoint, '\n')...), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(args ...string) (int, string) {
		var out, errOut bytes.Buffer
		code := execute(t.Context(), append([]string{"audit", "verify", "--data-dir", dir, "--against", copied}, args...), nil, &out, &errOut)
		return code, out.String() + errOut.String()
	}
	if code, out := verify(); code != exitOK || !strings.Contains(out, "5 entries, from 0 to 4; by itself whole and as signed up to a size of 5") {
		t.Fatalf("%d\n%s", code, out)
	}
	// Who has the key writes another log in its place.
	key, err := os.ReadFile(filepath.Join(dir, "audit.key"))
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "audit.key"), key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	logAt(t, dir, 1, 2, 3, 5, 6)
	code, out := verify()
	if code != exitFailed || !strings.Contains(out, "the log has another entry 4 than the copy") || !strings.Contains(out, "by itself whole and as signed up to a size of 5") ||
		!strings.Contains(out, "whoever has the signing key cut or rewrote the log") {
		t.Errorf("%d\n%s", code, out)
	}
	code, out = verify("-o", "json")
	var v struct {
		Sound bool
		Copy  sink.CopyReport
	}
	if err := json.Unmarshal([]byte(out[:strings.LastIndex(out, "}")+1]), &v); err != nil || v.Sound || v.Copy.Vouched != 5 || code != exitFailed {
		t.Errorf("%d %v\n%s", code, err, out)
	}
}
