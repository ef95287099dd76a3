package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
)

func FuzzABatchIsRefusedOrIsInTheOneFormThereIs(f *testing.F) {
	first, err := json.Marshal(head{Log: podOrigin, Key: "0123abcd", Session: "s", From: 3, Size: 9})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(append(first, '\n'), request(3)+line(4, "gap", `{"gateway":"pay/door"}`)...))
	f.Add(append(append(first, '\n'), line(3, "segment", `{}`)+request(4)...))
	f.Add(first)
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := parseBatch(body, gateway)
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) || r.status != http.StatusBadRequest && r.status != http.StatusForbidden {
				t.Fatalf("%v", err)
			}
			return
		}
		_, lines, _ := bytes.Cut(body, []byte("\n"))
		var again []byte
		for i := range b.entries {
			e := &b.entries[i]
			again = append(append(again, e.Line()...), '\n')
			if e.Seq != b.From+uint64(i) || e.Kind == "activation" || e.Kind == "source" {
				t.Fatalf("taken: %+v", e)
			}
		}
		if !bytes.Equal(again, lines) {
			t.Fatalf("%q was taken as %q", lines, again)
		}
	})
}
