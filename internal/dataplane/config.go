package dataplane

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Config says what one Envoy is to be.
type Config struct {
	// Name is unique among the Envoys of one run directory, such as
	// "payments/emergency". The Envoy lives in Dir/DirName(Name).
	Name string

	// NodeID is the xDS node id that Envoy presents to the control plane.
	NodeID string

	// XDSSocket, ALSSocket and IntentSocket are the unix sockets on which the control
	// plane serves ADS (delta), gRPC access logs and the keeping of intents: absolute,
	// at most 107 bytes.
	XDSSocket, ALSSocket, IntentSocket string

	// EnvoyPath is the binary; see Find.
	EnvoyPath string

	// Dir is the run directory that holds all Envoys of one data directory:
	// absolute, created 0700 when missing.
	Dir string

	// Concurrency is the number of Envoy's workers; 0 means the number of
	// CPUs, at most 4.
	Concurrency int

	// MaxConnections of clients, all listeners together; 0 means 5000. The control
	// plane's do not count.
	MaxConnections int

	// MaxHeapBytes is how much memory Envoy may take before it refuses requests; 0
	// means 1 GiB, and less than 64 MiB is refused.
	MaxHeapBytes uint64

	// DeadmanArgs is the command that ends an orphan; the Envoy's own
	// directory is appended as its last argument, so {exe, "deadman", "--dir"}
	// is what serve passes. It must call RunDeadman. Empty: there is none, and
	// an orphan lives until somebody ends it.
	DeadmanArgs []string

	// OnExit is told of each process that is gone: whether it ended by itself, by
	// Stop, by being replaced at Start, or is found dead at Start by what is left
	// of it. clean: it ended in order and has written its files to the end; false
	// also when that is not known. It is called from the supervising goroutine,
	// before a successor is started, or from within Start and Stop, so it must not
	// block long, nor call Stop or Detach. Each epoch is told at least once; more
	// often only when a control plane died right after it told. Nil: nobody asks.
	OnExit func(epoch string, clean bool) `json:"-"`

	// Log may be nil.
	Log *slog.Logger
}

// maxSocketPath is sizeof(sockaddr_un.sun_path) less the final NUL, unix(7).
const maxSocketPath = 107

// Names of files in an Envoy's directory.
const (
	fileBootstrap   = "bootstrap.json"
	fileLog         = "envoy.log"
	fileAdmin       = "admin.sock"
	fileEnvoyLock   = "envoy.lock"   // locked as long as an Envoy lives
	fileServeLock   = "serve.lock"   // locked as long as a control plane is attached
	fileDeadmanLock = "deadman.lock" // locked as long as a deadman watches
	fileRecord      = "envoy.json"   // which process holds envoy.lock
	fileDeadmanLog  = "deadman.log"
	fileDeadline    = "deadline" // until when an orphan may live
	fileEnded       = "ended"    // the epoch of an orphan that ended in order
)

// SpoolDir, in an Envoy's directory, is where Envoy writes its access log. This
// package makes it and removes nothing from it, ever: who reads it does.
const SpoolDir = "spool"

// DirName derives a directory name from the name of an Envoy: readable, never
// equal for two names, and short, because socket paths are.
func DirName(name string) string {
	slug := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		default:
			return '-'
		}
	}, name)
	if len(slug) > 16 {
		slug = slug[:16]
	}
	sum := sha256.Sum256([]byte(name))
	return strings.Trim(slug, "-") + "-" + hex.EncodeToString(sum[:4])
}

// withDefaults checks c and fills in what may be left out.
func (c Config) withDefaults() (Config, error) {
	for _, f := range []struct{ name, value string }{
		{"Name", c.Name}, {"NodeID", c.NodeID}, {"XDSSocket", c.XDSSocket}, {"ALSSocket", c.ALSSocket},
		{"IntentSocket", c.IntentSocket}, {"EnvoyPath", c.EnvoyPath}, {"Dir", c.Dir},
	} {
		if f.value == "" {
			return c, fmt.Errorf("dataplane: Config.%s of Envoy %q is empty", f.name, c.Name)
		}
	}
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return c, fmt.Errorf("dataplane: run directory: %w", err)
	}
	for _, socket := range []string{c.XDSSocket, c.ALSSocket, c.IntentSocket, filepath.Join(c.dir(), fileAdmin)} {
		if err := checkSocketPath(socket); err != nil {
			return c, err
		}
	}
	if c.Concurrency <= 0 {
		c.Concurrency = min(runtime.NumCPU(), 4)
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = defaultMaxConnections
	}
	if c.MaxHeapBytes == 0 {
		c.MaxHeapBytes = defaultMaxHeap
	}
	if c.MaxHeapBytes < minMaxHeap {
		return c, fmt.Errorf("dataplane: Config.MaxHeapBytes of Envoy %q is %d: Envoy itself needs %d", c.Name, c.MaxHeapBytes, minMaxHeap)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("envoy", c.Name)
	return c, nil
}

func checkSocketPath(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("socket path %q is relative: Envoy runs in a directory of its own, so make it absolute", path)
	}
	if len(path) > maxSocketPath {
		return fmt.Errorf("socket path %s has %d bytes, unix sockets allow %d: use a data directory with a shorter path",
			path, len(path), maxSocketPath)
	}
	return nil
}

// dir is the Envoy's own directory.
func (c Config) dir() string { return filepath.Join(c.Dir, DirName(c.Name)) }

func (c Config) file(name string) string { return filepath.Join(c.dir(), name) }

// args is Envoy's command line.
func (c Config) args() []string {
	return append(commandLine(c.EnvoyPath, c.file(fileBootstrap), c.Concurrency), "--log-path", c.file(fileLog))
}

// commandLine is what every Envoy of ours is started with.
func commandLine(envoy, bootstrap string, concurrency int) []string {
	return []string{
		envoy,
		"-c", bootstrap,
		// Removing an internal listener is how open streams are cut: drain nothing.
		"--drain-time-s", "0",
		"--drain-strategy", "immediate",
		"--disable-hot-restart",
		// What Envoy has not flushed is lost when it is killed. It costs an idle Envoy
		// about 3 % of a core.
		"--file-flush-interval-msec", "1",
		"--file-flush-min-size-kb", "0", // each line at once, if the writing thread gets to it
		"-l", "warning",
		"--concurrency", fmt.Sprint(concurrency),
	}
}

// prepareDir makes the run directory, the Envoy's own and its spool, and closes
// them to others: whoever can write there can replace Envoy's bootstrap, or what
// is on record.
func (c Config) prepareDir() error {
	for _, dir := range []string{c.Dir, c.dir(), c.file(SpoolDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("directory of Envoy %q: %w", c.Name, err)
		}
		info, err := os.Lstat(dir)
		if err != nil {
			return fmt.Errorf("directory of Envoy %q: %w", c.Name, err)
		}
		if !info.IsDir() {
			return fmt.Errorf("directory of Envoy %q: %s is not a directory (mode %s): remove it", c.Name, dir, info.Mode())
		}
		if info.Mode().Perm() != 0o700 {
			if err := os.Chmod(dir, 0o700); err != nil {
				return fmt.Errorf("directory of Envoy %q must have mode 0700: %w", c.Name, err)
			}
		}
	}
	return nil
}

// writeFile replaces a file as a whole. It does not fsync: what is written here
// matters only while the Envoy it speaks of lives, and no Envoy outlives the
// page cache.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
