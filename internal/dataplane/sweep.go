package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Names are those of the Envoys that ever ran in the run directory, as their
// bootstraps have them: of each the spool may hold what nobody has read yet.
func Names(runDir string) ([]string, error) {
	entries, err := readRunDir(runDir)
	var names []string
	for _, entry := range entries {
		if name := nameOf(filepath.Join(runDir, entry.Name())); name != "" {
			names = append(names, name)
		}
	}
	return names, err
}

func readRunDir(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	return entries, nil
}

// nameOf a directory's Envoy; "" if it is not known.
func nameOf(dir string) string {
	var bootstrap struct {
		Node struct{ ID string }
	}
	b, err := os.ReadFile(filepath.Join(dir, fileBootstrap))
	if err != nil || json.Unmarshal(b, &bootstrap) != nil || DirName(bootstrap.Node.ID) != filepath.Base(dir) {
		return ""
	}
	return bootstrap.Node.ID
}

// Sweep ends what an earlier control plane left in the run directory for
// Gateways that no longer exist: an orphan would keep their ports and serve
// their routes until its last deadline. An Envoy in keep, or one with a control
// plane attached, is left alone. It returns the directories that it cleared. The
// spools there stay: they may hold what nobody has read yet. onExit is told of
// each process that is gone, as Config.OnExit is.
func Sweep(ctx context.Context, runDir string, keep []string, onExit func(name, epoch string, clean bool), log *slog.Logger) ([]string, error) {
	kept := map[string]bool{}
	for _, name := range keep {
		kept[DirName(name)] = true
	}
	entries, err := readRunDir(runDir)
	if err != nil {
		return nil, err
	}
	var swept []string
	var errs []error
	for _, entry := range entries {
		if !entry.IsDir() || kept[entry.Name()] {
			continue
		}
		ended, err := sweepOne(ctx, filepath.Join(runDir, entry.Name()), onExit)
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

func sweepOne(ctx context.Context, dir string, onExit func(name, epoch string, clean bool)) (ended bool, err error) {
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
	if err != nil {
		return false, err
	}
	rec := readRecord(dir)
	epoch, clean := rec.Epoch, endedInOrder(dir, rec.Epoch)
	if p != nil {
		defer p.release()
		if err := p.end(ctx, stopGrace); err != nil {
			return false, fmt.Errorf("end the orphan in %s: %w", dir, err)
		}
		epoch, clean = rec.epochOf(p), p.clean()
	}
	if name := nameOf(dir); name != "" && epoch != "" && onExit != nil {
		onExit(name, epoch, clean)
	}
	return p != nil, removeState(dir)
}
