package sink

import "time"

// pace is how fast a follower does what.
type pace struct {
	// entries and bytes bound a piece of the log, and with it the memory of a sink.
	entries, bytes int
	// attempt is how long one delivery may take.
	attempt time.Duration
	// first and most are the pauses after failures, each twice as long as the last.
	first, most time.Duration
	// patience is how long deliveries fail until that is a state that is told of, and
	// calm how long after that the next may be told of.
	patience, calm time.Duration
	// save is the least time between two writes of the cursor; the first is soon after
	// the start, so that who dies again and again gets on.
	save, soon time.Duration
	// grace is what Close gives for what was recorded last, and quiet how long nothing
	// must come until that was all: a checkpoint comes a tenth of a second after what
	// it covers.
	grace, quiet time.Duration
	// stuck is how long one entry alone must be refused before the ones after it are
	// tried.
	stuck time.Duration
}

var defaultPace = pace{
	entries: 512, bytes: 1 << 20, attempt: 10 * time.Second, first: 100 * time.Millisecond, most: 30 * time.Second,
	patience: 3 * time.Second, calm: time.Minute, save: time.Second, soon: 200 * time.Millisecond, grace: 2 * time.Second, quiet: 300 * time.Millisecond, stuck: time.Minute,
}
