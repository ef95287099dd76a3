package controller

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

func keptSet() *source.Set {
	return source.NewSet([]source.Object{
		{Key: source.ObjectKey{Kind: "Activation", Namespace: "pay", Name: "a"}, Object: &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "a", UID: "uid"}, Status: v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseRevoked}}},
		{Key: source.ObjectKey{Kind: "Namespace", Name: "pay"}, Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pay"}}},
	})
}

func TestWhatIsKeptIsReadAgainByNobodyElse(t *testing.T) {
	k := newKeep(Options{DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, nil)
	if set, err := k.load(); set != nil || err != nil {
		t.Fatalf("without a file: %v, %v", set, err)
	}
	if err := k.save(keptSet()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(k.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	set, err := k.load()
	if err != nil || set.Namespaces["pay"] == nil || set.Activations[pay("a")].Status.Phase != v1alpha1.PhaseRevoked || set.Activations[pay("a")].UID != "uid" {
		t.Errorf("%+v, %v", set, err)
	}
}

func TestAKeptFileThatIsDamagedIsRefusedWhole(t *testing.T) {
	k := newKeep(Options{DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, nil)
	if err := k.save(keptSet()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(k.file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"garbage": "\x00\xff", "another version": strings.Replace(string(whole), `"v":1`, `"v":2`, 1), "no version": `{}`, "null": "null",
		"two in one": string(whole) + string(whole), "an object that is none": `{"v":1,"objects":[{"kind":"Activation","object":{"metadata":7}}]}`,
	}
	for n := range len(whole) {
		files["cut"] = string(whole[:n])
		for name, text := range files {
			if err := os.WriteFile(k.file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			set, err := k.load()
			if set != nil || err == nil || !strings.Contains(err.Error(), filepath.Base(k.file)) || strings.Contains(err.Error(), "%!") {
				t.Fatalf("%s (%d bytes): %v, %v", name, len(text), set, err)
			}
			if set, err = k.load(); set != nil || err != nil {
				t.Fatalf("%s: it is looked at again: %v, %v", name, set, err)
			}
		}
		clear(files) // once is enough for those that are not cut
	}
	if err := os.WriteFile(k.file, []byte(`{"v":1,"objects":[{"kind":"Later","object":7}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if set, err := k.load(); set == nil || err != nil {
		t.Errorf("a kind of a later version stops the others: %v", err)
	}
}
