//go:build !clockstep

package clock

import "time"

// wall is the settable clock of the machine.
var wall = time.Now
