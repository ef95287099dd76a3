package controller

import (
	"log/slog"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
)

func leaseOf(holder, says string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{servesAnnotation: says}}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder}}
}

func TestWhatAPeerSaysIsHeardAndWhatIsNoWordIsNot(t *testing.T) {
	news := 0
	p := newPeers(Options{Pod: "me", Log: slog.New(slog.DiscardHandler)}, nil, nil, func() { news++ })
	heard := func(o any, gone bool, want int) {
		t.Helper()
		if p.heard(o, gone); news != want {
			t.Errorf("%d pieces of news, want %d", news, want)
		}
	}
	good := leaseOf("two", `{"envoys":{"pay/door":2},"leases":["l"]}`)
	heard(good, false, 1)
	heard(good, false, 1)
	heard(leaseOf("me", `{"envoys":{"pay/door":9}}`), false, 1)
	heard(&coordinationv1.Lease{}, false, 1)
	heard("no Lease", false, 1)
	for _, says := range []string{"", "{", "null!", `{"envoys":{"pay/door":"two"}}`, `{"leases":"l"}`, `{"envoys":{"pay/door":1e99}}`} {
		heard(leaseOf("two", says), false, 1)
	}
	if all := p.all(); len(all) != 1 || all[0].Envoys[pay("door")] != 2 || !all[0].Serving["l"] {
		t.Fatalf("%+v", all)
	}
	heard(leaseOf("three", `{"envoys":{"door":-1,"a/b/c":1,"":3},"leases":["","x"]}`), false, 2)
	if all := p.all(); len(all) != 2 || all[0].Name != "three" {
		t.Errorf("%+v", all)
	}
	heard(toolscache.DeletedFinalStateUnknown{Obj: good}, true, 3)
	heard(good, true, 3)
	if all := p.all(); len(all) != 1 {
		t.Errorf("%+v", all)
	}
}

func TestAPeerThatIsSilentIsNotWaitedFor(t *testing.T) {
	news := 0
	p := newPeers(Options{Pod: "me", Log: slog.New(slog.DiscardHandler)}, nil, nil, func() { news++ })
	p.heard(leaseOf("two", `{"envoys":{"pay/door":2}}`), false)
	p.forget()
	if len(p.all()) != 1 || news != 1 {
		t.Fatalf("forgotten at once: %v", p.all())
	}
	s := p.said["two"]
	s.at = s.at.Add(-silentFor)
	p.said["two"] = s
	p.forget()
	if len(p.all()) != 0 || news != 2 {
		t.Errorf("still there: %v", p.all())
	}
}
