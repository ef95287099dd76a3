package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

func TestExamplesAreRightAndServingThemOpensNothing(t *testing.T) {
	examples := filepath.Join("..", "..", "examples")
	var out, errOut strings.Builder
	if err := validate(&out, &errOut, []string{examples}); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	repo := source.Load(filepath.Join(examples, "repo"))
	if n := len(repo.Activations); n != 0 {
		t.Errorf("%d activations would open when examples/repo is served", n)
	}
	if len(repo.HTTPRoutes) != 3 || len(repo.Secrets)+len(repo.ConfigMaps) != 0 {
		t.Errorf("want three routes and no keys, got %d and %d", len(repo.HTTPRoutes), len(repo.Secrets)+len(repo.ConfigMaps))
	}
	for name, p := range repo.Policies {
		s := p.Spec.Scope
		if s.AllowAnyMethod || s.AllowCatchAllPath || s.AllowPlainHTTP || s.AllowUnlabelled || s.AllowWildcardHostnames {
			t.Errorf("EmergencyPolicy %s is not strict: %+v", name, s)
		}
	}
	for key, a := range source.Load(filepath.Join(examples, "drills")).Activations {
		// Without a notAfter a serve that knows nothing of the past refuses it.
		if !a.Spec.Drill || a.Spec.NotAfter != nil {
			t.Errorf("%s: want a drill that a restored backup does not reopen", key)
		}
	}
}
