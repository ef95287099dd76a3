package xds

import (
	"fmt"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// TestARefusalIsRememberedWhileTheRoutesAreTriedOneByOne: a host of many routes
// takes as many answers to find the bad one. If the first were forgotten before
// the last came, the search would never end.
func TestARefusalIsRememberedWhileTheRoutesAreTriedOneByOne(t *testing.T) {
	v := newView()
	bad, good := key(snapshot.Route, "bad"), key(snapshot.Route, "good")
	v.tried(bad, "whole", "no")
	for i := range 5000 {
		v.tried(bad, fmt.Sprintf("draft-%d", i), "")
		v.tried(good, fmt.Sprintf("edition-%d", i), "")
	}
	if got := v.answers[bad].refused["whole"]; got != "no" || len(v.answers[bad].versions) != 5001 {
		t.Errorf("of the whole version %q is known, and of %d versions", got, len(v.answers[bad].versions))
	}
	if n := len(v.answers[good].versions); n > maxTaken {
		t.Errorf("%d answers are kept of a resource of which nothing was refused", n)
	}
	if _, is := v.refusing[good]; is || len(v.refusing) != 1 {
		t.Errorf("refused: %v", v.refusing)
	}
	v.tried(bad, "whole", "") // asked again, and taken
	if len(v.refusing) != 0 {
		t.Errorf("refused: %v", v.refusing)
	}
}
