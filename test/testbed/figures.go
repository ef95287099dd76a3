package testbed

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Figures are durations that the suite measured, by name.
type Figures struct {
	mu   sync.Mutex
	all  map[string][]time.Duration
	keys []string
}

// Add a measurement.
func (f *Figures) Add(name string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[string][]time.Duration{}
	}
	if _, known := f.all[name]; !known {
		f.keys = append(f.keys, name)
	}
	f.all[name] = append(f.all[name], d)
}

// String is one line a name: count, least, median and most in ms.
func (f *Figures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	var b strings.Builder
	for _, k := range f.keys {
		v := slices.Sorted(slices.Values(f.all[k]))
		fmt.Fprintf(&b, "%-48s n=%-3d least %8.1f  median %8.1f  most %8.1f ms\n", k, len(v), ms(v[0]), ms(v[len(v)/2]), ms(v[len(v)-1]))
	}
	return b.String()
}
