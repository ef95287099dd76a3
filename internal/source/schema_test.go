package source

import (
	"io/fs"
	"reflect"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/api/crds"
)

func TestASchemaWithoutProseIsTheSameSchema(t *testing.T) {
	files, err := fs.Glob(crds.FS, "*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			data, err := crds.FS.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			short := withoutProse(data)
			if len(short) > len(data)*2/3 {
				t.Errorf("%d bytes are left of %d", len(short), len(data))
			}
			if got, want := decoded(t, short), decoded(t, data); !reflect.DeepEqual(got, want) {
				t.Error("another schema")
			}
		})
	}
}

// decoded YAML, less all descriptions.
func decoded(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return dropped(v)
}

func dropped(v any) any {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			dropped(item)
		}
	case map[string]any:
		if _, prose := v["description"].(string); prose {
			delete(v, "description")
		}
		for _, item := range v {
			dropped(item)
		}
	}
	return v
}
