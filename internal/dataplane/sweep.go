package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Sweep ends what an earlier control plane left in the run directory for
// Gateways that no longer exist: an orphan would keep their ports and serve
// their routes until its last deadline. An Envoy in keep, or one with a control
// plane attached, is left alone. It returns the directories that it cleared.
func Sweep(ctx context.Context, runDir string, keep []string, log *slog.Logger) ([]string, error) {
	kept := map[string]bool{}
	for _, name := range keep {
		kept[DirName(name)] = true
	}
	entries, err := os.ReadDir(runDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	var swept []string
	var errs []error
	for _, entry := range entries {
		if !entry.IsDir() || kept[entry.Name()] {
			continue
		}
		ended, err := sweepOne(ctx, filepath.Join(runDir, entry.Name()))
		if err != nil {
			errs = append(errs, err)
		}
		if ended {
			swept = append(swept, entry.Name())
			log.Info("ended the Envoy of a Gateway that is gone", "dir", entry.Name())
		}
	}
	return swept, errors.Join(errs...)
}

func sweepOne(ctx context.Context, dir string) (ended bool, err error) {
	if _, err := os.Stat(filepath.Join(dir, fileEnvoyLock)); err != nil {
		return false, nil // not a directory of ours
	}
	// Held while we look, so that nobody starts an Envoy there.
	lock, err := takeLock(filepath.Join(dir, fileServeLock))
	if errors.Is(err, errLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	p, err := holder(ctx, dir)
	if err != nil || p == nil {
		return false, err
	}
	defer p.release()
	if err := p.end(ctx, stopGrace); err != nil {
		return false, fmt.Errorf("end the orphan in %s: %w", dir, err)
	}
	return true, nil
}
