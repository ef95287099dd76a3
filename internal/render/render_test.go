package render

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	yamlv3 "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/golden"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

var (
	now = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	db  = types.NamespacedName{Namespace: "door", Name: "db"}
)

func load(t *testing.T, path string) translator.Objects {
	t.Helper()
	set := source.Load(path)
	for _, p := range set.Problems {
		t.Error(p)
	}
	return set.Objects
}

func door(t *testing.T) translator.Objects { return load(t, filepath.Join("testdata", "door")) }

func render(t *testing.T, objects translator.Objects, o Options) *Document {
	t.Helper()
	o.At = now
	d, err := Render(objects, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func asYAML(t *testing.T, d *Document) string {
	t.Helper()
	var b bytes.Buffer
	e := yamlv3.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	got := asYAML(t, render(t, door(t), Options{Opens: []Open{{Route: activation.HTTPRoute(db), Rule: "promote", Duration: 5 * time.Minute}}}))
	golden.Check(t, filepath.Join("testdata", "door.yaml"), []byte(got))
}

func TestTheSameManifestsAndTimeGiveTheSameDocument(t *testing.T) {
	o := Options{Opens: []Open{{Route: activation.HTTPRoute(db)}}, Full: true}
	first := asYAML(t, render(t, door(t), o))
	for range 5 {
		if again := asYAML(t, render(t, door(t), o)); again != first {
			t.Fatal("another document")
		}
	}
}

// routes of a document that can reach something, by name.
func open(t *testing.T, d *Document) (names []string) {
	t.Helper()
	for _, g := range d.Gateways {
		for _, rc := range g.Resources["RouteConfiguration"] {
			b, err := json.Marshal(rc.Body)
			if err != nil {
				t.Fatal(err)
			}
			var body struct {
				VirtualHosts []struct {
					Routes []struct {
						Name  string
						Route any
					}
				} `json:"virtual_hosts"`
			}
			if err := json.Unmarshal(b, &body); err != nil {
				t.Fatal(err)
			}
			for _, vh := range body.VirtualHosts {
				for _, r := range vh.Routes {
					if r.Route != nil {
						names = append(names, r.Name)
					}
				}
			}
		}
	}
	return names
}

func TestWithoutAWindowNothingIsOpen(t *testing.T) {
	d := render(t, door(t), Options{})
	if got := open(t, d); len(got) != 0 || len(d.Windows) != 0 || d.Gateways[0].OpenUntil != nil {
		t.Errorf("open: %q, windows %v", got, d.Windows)
	}
}

func TestOnlyTheRuleThatIsAskedForIsOpen(t *testing.T) {
	d := render(t, door(t), Options{Opens: []Open{{Route: activation.HTTPRoute(db), Rule: "promote", Duration: 5 * time.Minute}}})
	if got := open(t, d); len(got) != 1 || got[0] != "door/db/promote/0" {
		t.Errorf("open: %q", got)
	}
	if end := now.Add(5 * time.Minute); d.Next == nil || !d.Next.Equal(end) || !d.Gateways[0].OpenUntil.Equal(end) {
		t.Errorf("next %v, open until %v, want %v", d.Next, d.Gateways[0].OpenUntil, end)
	}
}

func TestAWindowIsJudgedAsServeWould(t *testing.T) {
	for _, c := range []struct {
		open    Open
		phase   v1alpha1.Phase
		message string
	}{
		{Open{Route: activation.HTTPRoute(db), Role: "web"}, v1alpha1.PhaseRefused, `only role "db" opens`},
		{Open{Route: activation.HTTPRoute(db), Role: "nobody"}, v1alpha1.PhaseRefused, `has no role "nobody"`},
		{Open{Route: activation.HTTPRoute(db), Rule: "none"}, v1alpha1.PhasePending, `has no rule named "none"`},
		{Open{Route: activation.HTTPRoute(db), Duration: 3 * time.Hour}, v1alpha1.PhaseLive, ""},
	} {
		d := render(t, door(t), Options{Opens: []Open{c.open}})
		w := d.Windows[0]
		if w.Phase != c.phase || !strings.Contains(w.Message, c.message) || (c.phase == v1alpha1.PhaseLive) != (len(open(t, d)) > 0) {
			t.Errorf("%+v: %+v, open %q", c.open, w, open(t, d))
		}
		if c.phase == v1alpha1.PhaseLive && !w.Deadline.Equal(now.Add(10*time.Minute)) {
			t.Errorf("deadline %v: the role's maxDuration is 10m", w.Deadline)
		}
	}
	if _, err := Render(door(t), Options{At: now, Opens: []Open{{Route: activation.HTTPRoute(types.NamespacedName{Namespace: "door", Name: "x"})}}}); err == nil || !strings.Contains(err.Error(), "door/db") {
		t.Errorf("a route that is not there: %v", err)
	}
	if _, err := Render(door(t), Options{At: now, Gateway: db}); err == nil || !strings.Contains(err.Error(), "door/emergency") {
		t.Errorf("a Gateway that is not there: %v", err)
	}
}

// Whatever is secret in the input must not be found in the output, in any form.
func TestNoKeyIsInADocument(t *testing.T) {
	objects := door(t)
	cert, key, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	objects.Secrets = map[types.NamespacedName]*corev1.Secret{{Namespace: "door", Name: "door"}: {Data: map[string][]byte{"tls.crt": cert, "tls.key": key}}}
	d := render(t, objects, Options{Opens: []Open{{Route: activation.HTTPRoute(db)}}, Full: true})
	text := asYAML(t, d)
	if b := strings.Count(text, "private_key: sha256:"); b != 1 {
		t.Errorf("%d digests of private keys, want one", b)
	}
	for _, secret := range []string{"PRIVATE KEY", "LS0t", "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY", "local_jwks: {", "kty"} {
		if strings.Contains(text, secret) {
			t.Errorf("there is %q in it", secret)
		}
	}
	for _, n := range d.StandIns {
		if strings.Contains(n, "certificate") {
			t.Errorf("the certificate is there, and yet: %s", n)
		}
	}
}

func TestStandInsAreNamed(t *testing.T) {
	d := render(t, door(t), Options{})
	got := strings.Join(d.StandIns, "\n")
	for _, want := range []string{"keys of issuer sso of EmergencyPolicy emergency: fetched from https://sso.example.com/jwks.json", "certificate of Secret door/door"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if strings.Contains(got, "offline") {
		t.Errorf("the keys of offline are there: %q", got)
	}
	if text := asYAML(t, d); strings.Count(text, ": stand-in") != 3 { // the key set, certificate and private key
		t.Errorf("want three stand-ins in %s", text)
	}
}

func TestThereIsAStandInForEveryAlgorithm(t *testing.T) {
	for _, alg := range []v1alpha1.Algorithm{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		text, err := publicKeys([]v1alpha1.Algorithm{alg})
		if err != nil {
			t.Fatal(err)
		}
		if set, err := jwks.Parse([]byte(text), []v1alpha1.Algorithm{alg}); err != nil || len(set.Keys()) != 1 {
			t.Errorf("%s: %v", alg, err)
		}
	}
}
