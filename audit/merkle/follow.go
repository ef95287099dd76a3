package merkle

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// followEvery is how often Follow looks without being told: not all file systems
// tell of changes.
const followEvery = time.Second

// Follow calls fn for the entries in dir, in order, and goes on with what any
// process appends until ctx ends; then it returns the error of ctx. It hands out
// what a checkpoint covers: that is durable, and cannot be taken back.
func Follow(ctx context.Context, dir string, f Filter, fn func(Entry) error) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	if err := watcher.Add(dir); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	r := &reader{ctx: ctx, dir: dir, filter: f, fn: fn}
	defer r.close()
	for started := false; ; {
		if r.limit, err = signedSize(dir); err != nil {
			return err
		}
		if r.limit > 0 && !started {
			if err := r.start(); err != nil {
				return err
			}
			started = true
		}
		for more := started; more; {
			if more, err = r.step(); err != nil {
				return err
			}
		}
		if err := nextCheckpoint(ctx, watcher, dir); err != nil {
			return err
		}
	}
}

func signedSize(dir string) (uint64, error) {
	path := filepath.Join(dir, checkpointName)
	b, err := readSmall(path, maxNote)
	if err != nil {
		return 0, fmt.Errorf("read the checkpoint: %w", err)
	}
	head, err := readHead(b)
	if err != nil {
		return 0, &CorruptError{File: path, Reason: err.Error()}
	}
	return head.size, nil
}

// nextCheckpoint waits until there may be another one.
func nextCheckpoint(ctx context.Context, w *fsnotify.Watcher, dir string) error {
	path := filepath.Join(dir, checkpointName)
	timer := time.NewTimer(followEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.Events:
			if !ok {
				return errors.New("the watch of the audit log has ended")
			}
			if e.Name == path {
				return nil
			}
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch %s: %w", dir, err)
			}
			return nil // look
		case <-timer.C:
			return nil
		}
	}
}
