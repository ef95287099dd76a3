package jwks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Key names an issuer of a policy.
type Key struct{ Policy, Issuer string }

// Result is what is known of a remote key set.
type Result struct {
	// Set is the last good key set, nil if there is none that may be used.
	Set *Set
	// Raw is the answer it was parsed from.
	Raw []byte
	// FetchedAt is when it was fetched, Expires when it stops being usable:
	// FetchedAt + maxStale. Both zero if there never was one.
	FetchedAt, Expires time.Time
	// Err of the last attempt, nil if it succeeded or there was none yet.
	Err error
	// Stale: Set is not from the last attempt, but from one before, or from disk.
	Stale bool
}

// minRetry is the least time between two attempts.
const minRetry = time.Second

// Fetcher keeps remote key sets fresh in the background. All methods may be
// called from any goroutine, and none waits for the network.
type Fetcher struct {
	dir string
	now func() time.Time
	log *slog.Logger
	// wait is for a while, false if ctx ended first. Tests replace it.
	wait func(ctx context.Context, d time.Duration) bool

	changed chan struct{}
	running sync.WaitGroup
	disk    sync.Mutex // held while a file is written

	mu      sync.Mutex
	closed  bool
	watches map[Key]*watch
}

// watch is one remote key set with its background loop.
type watch struct {
	key  Key
	src  Source
	stop context.CancelFunc
	last Result // guarded by Fetcher.mu
}

// NewFetcher keeps last good answers in dir, which it makes; with an empty dir
// nothing survives a restart. It starts idle: see Set.
func NewFetcher(dir string, now func() time.Time, log *slog.Logger) *Fetcher {
	return &Fetcher{dir: dir, now: now, log: log, wait: wait, changed: make(chan struct{}, 1), watches: map[Key]*watch{}}
}

// Set replaces what is wanted. What is new is fetched in the background; its
// last good answer on disk, if usable, is in the Snapshot when Set returns. What
// is no longer wanted is forgotten, though its file stays. What is the same goes
// on undisturbed.
func (f *Fetcher) Set(wanted map[Key]Source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	changed := false
	for key, w := range f.watches {
		if src, ok := wanted[key]; !ok || !reflect.DeepEqual(src, w.src) {
			w.stop()
			delete(f.watches, key)
			changed = true
		}
	}
	for key, src := range wanted {
		if f.watches[key] == nil {
			f.start(key, src)
			changed = true
		}
	}
	if changed {
		f.notify()
	}
}

// start a loop. f.mu is held.
func (f *Fetcher) start(key Key, src Source) {
	src = Source{RemoteJWKS: *src.DeepCopy(), Algorithms: slices.Clone(src.Algorithms)}
	ctx, stop := context.WithCancel(context.Background())
	w := &watch{key: key, src: src, stop: stop}
	if f.dir != "" {
		res, err := Cached(f.dir, key, src, f.now())
		switch {
		case err == nil:
			w.last = res
		case !errors.Is(err, fs.ErrNotExist):
			f.log.Warn("key set on disk not used", "policy", key.Policy, "issuer", key.Issuer, "error", err)
		}
	}
	f.watches[key] = w
	f.running.Go(func() { f.run(ctx, w) })
}

func (f *Fetcher) run(ctx context.Context, w *watch) {
	refresh := max(v1alpha1.PositiveOr(w.src.RefreshInterval, defaultRefresh), minRetry)
	for failures := 0; ; {
		delay := spread(refresh)
		if f.attempt(ctx, w) {
			failures = 0
		} else {
			delay = spread(backoff(failures, refresh))
			failures++
		}
		if !f.wait(ctx, delay) {
			return
		}
	}
}

// attempt fetches once and publishes what came of it.
func (f *Fetcher) attempt(ctx context.Context, w *watch) bool {
	// Before the fetch, so that an answer is never taken for younger than it is.
	fetchedAt := f.now().Round(0)
	set, body, err := Fetch(ctx, w.src)
	if ctx.Err() != nil {
		return false
	}
	var unsaved error
	if err == nil && f.dir != "" {
		unsaved = f.save(w, stored{Policy: w.key.Policy, Issuer: w.key.Issuer, URI: w.src.URI, FetchedAt: fetchedAt, Body: body})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watches[w.key] != w {
		return false // replaced meanwhile
	}
	before := w.last
	if err != nil {
		w.last.Err, w.last.Stale = err, w.last.Set != nil
	} else {
		w.last = Result{Set: set, Raw: body, FetchedAt: fetchedAt, Err: unsaved, Expires: fetchedAt.Add(v1alpha1.PositiveOr(w.src.MaxStale, defaultMaxStale))}
		// The same keys are the same pointer.
		if before.Set.Envoy() == set.Envoy() {
			w.last.Set = before.Set
		}
	}
	f.report(w, before)
	f.notify()
	return err == nil
}

func (f *Fetcher) save(w *watch, s stored) error {
	f.disk.Lock()
	defer f.disk.Unlock()
	f.mu.Lock()
	current := f.watches[w.key] == w
	f.mu.Unlock()
	if !current {
		return nil // it would overwrite the answer of its successor
	}
	if err := save(f.dir, w.key, s); err != nil {
		return fmt.Errorf("the key set is in use, but would not survive a restart: %w", err)
	}
	return nil
}

// report logs what changed, once.
func (f *Fetcher) report(w *watch, before Result) {
	log := f.log.With("policy", w.key.Policy, "issuer", w.key.Issuer)
	switch err := w.last.Err; {
	case err != nil && (before.Err == nil || before.Err.Error() != err.Error()):
		log.Warn("key set not refreshed", "error", err, "lastGood", w.last.Set != nil, "usableUntil", w.last.Expires)
	case err == nil && before.Err != nil:
		log.Info("key set refreshed again")
	}
	if w.last.Set != nil && w.last.Set != before.Set {
		log.Info("key set changed", "entries", len(w.last.Set.entries))
	}
}

// Snapshot is the state of all that is wanted, at now. The map is the caller's;
// what is in it must not be changed.
func (f *Fetcher) Snapshot() map[Key]Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	out := make(map[Key]Result, len(f.watches))
	for key, w := range f.watches {
		out[key] = w.last.at(now)
	}
	return out
}

// at drops a set that is past its time.
func (r Result) at(now time.Time) Result {
	if r.Set == nil || now.Before(r.Expires) {
		return r
	}
	cause := r.Err
	r.Set, r.Raw, r.Stale = nil, nil, true
	r.Err = errors.New("the last good key set is older than jwks.remote.maxStale")
	if cause != nil {
		r.Err = fmt.Errorf("%w, and could not be refreshed: %w", r.Err, cause)
	}
	return r
}

// Changed receives after the Snapshot has changed. Several changes may be one
// signal. A set that expires is no change: see Result.Expires.
func (f *Fetcher) Changed() <-chan struct{} { return f.changed }

func (f *Fetcher) notify() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Close ends all loops and waits for them. The Snapshot stays.
func (f *Fetcher) Close() {
	f.mu.Lock()
	f.closed = true
	for w := range maps.Values(f.watches) {
		w.stop()
	}
	f.mu.Unlock()
	f.running.Wait()
}

// backoff doubles from minRetry up to the refresh interval.
func backoff(failures int, refresh time.Duration) time.Duration {
	return min(minRetry<<min(failures, 16), refresh)
}

// spread keeps many fetchers from asking in step: d less or more up to a tenth,
// never below minRetry.
func spread(d time.Duration) time.Duration {
	return max(minRetry, d-d/10+rand.N(d/5+1))
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
