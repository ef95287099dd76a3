package source

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

const twoObjects = `# A file as people write it.
---
# The first.

apiVersion: v1
kind: Namespace
metadata: {name: payments}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata:
    name: db
    namespace: payments
    labels: {a: b}
  spec:
    ports:
    - {name: http, port: 80}
    - name: https
      port: 443
`

func writeManifest(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAManifestComesBackAsTheObject(t *testing.T) {
	set := Load(writeManifest(t, twoObjects), filepath.Join("..", "..", "examples"))
	var back []Object
	for _, o := range set.All() {
		text, err := Manifest(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		key, obj, err := FromManifest(text)
		if err != nil {
			t.Fatal(err)
		}
		if key != o.Key || !equality.Semantic.DeepEqual(obj, o.Object) {
			t.Errorf("%s came back as %s: %+v", o.Key, key, obj)
		}
		back = append(back, Object{key, obj, o.Origin})
	}
	if len(back) != len(set.Origins) || len(back) < 15 {
		t.Errorf("%d objects of %d", len(back), len(set.Origins))
	}
	again := NewSet(back)
	if len(again.All()) != len(back) || !equality.Semantic.DeepEqual(again.HTTPRoutes, set.HTTPRoutes) || !maps.Equal(again.Origins, set.Origins) {
		t.Error("the Set is another one")
	}
}

func TestTheLineOfAFieldIsFoundWhereverItsObjectStands(t *testing.T) {
	dir := writeManifest(t, twoObjects)
	set := Load(dir)
	db := set.Origins[ObjectKey{"Service", "payments", "db"}]
	ns := set.Origins[ObjectKey{"Namespace", "", "payments"}]
	relative := db
	relative.File = "a.yaml"
	for _, c := range []struct {
		origin Origin
		dir    string
		path   string
		want   int
	}{
		{ns, "", "metadata.name", 7},
		{ns, "", "", 5},
		{db, "", "spec.ports[1].port", 22},
		{db, "", "spec.ports[0]", 20},
		{db, "", "spec.none.at.all", 18},
		{db, "", "metadata.labels[a]", 17},
		{relative, dir, "spec.ports[1]", 21},
		{relative, t.TempDir(), "spec.ports[1]", 12}, // the file is not there
	} {
		if got := (&Lines{Dir: c.dir}).Of(c.origin, c.path); got != c.want {
			t.Errorf("%s is in line %d, want %d", c.path, got, c.want)
		}
	}
	if set.Services[types.NamespacedName{Namespace: "payments", Name: "db"}] == nil {
		t.Error("the Service was not read")
	}
}
