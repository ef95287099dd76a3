//go:build clockstep

package clock

import (
	"os"
	"strings"
	"time"
)

// wall is the machine's clock plus the duration in the file that
// BREAKGLASS_TEST_CLOCK_STEP names: a test cannot set the clock of a machine that
// it shares. Only a binary that a test builds with -tags clockstep has this.
func wall() time.Time {
	text, err := os.ReadFile(os.Getenv("BREAKGLASS_TEST_CLOCK_STEP"))
	if err != nil {
		return time.Now()
	}
	by, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		panic("clock: " + err.Error())
	}
	// Without the monotonic reading, which no step changes.
	return time.Now().Round(0).Add(by)
}
