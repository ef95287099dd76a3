package dataplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// RunDir is the directory (0700) that a Container shares with the agent in the
// next container: sockets, and what is known of Envoy's lives. Nothing in it needs
// to outlive the pod.
//
//	xds.sock, als.sock,
//	intent.sock         where the agent listens, mode 0600
//	admin.sock          Envoy's admin interface, mode 0600
//	bootstrap.json      what Envoy was started with
//	envoy.lock          locked exactly as long as Envoy lives
//	epoch               of the Envoy that lives; it stays if nobody lived to see its end
//	ended/EPOCH         how the Envoy of that epoch ended
type RunDir string

const (
	fileEpoch = "epoch"
	dirEnded  = "ended"

	endedInOrderText, endedOtherwiseText = "in order\n", "killed or crashed\n"
)

func (d RunDir) file(name string) string { return filepath.Join(string(d), name) }

// XDSSocket is where Envoy asks for its configuration.
func (d RunDir) XDSSocket() string { return d.file("xds.sock") }

// ALSSocket is where Envoy sends its gRPC access log.
func (d RunDir) ALSSocket() string { return d.file("als.sock") }

// IntentSocket is where Envoy asks, before it forwards a request under a Strict
// policy, that its intent be kept.
func (d RunDir) IntentSocket() string { return d.file("intent.sock") }

// Admin is Envoy's admin interface.
func (d RunDir) Admin() Admin { return NewAdmin(d.file(fileAdmin)) }

// Alive reports whether an Envoy lives.
func (d RunDir) Alive() (bool, error) { return isLocked(d.file(fileEnvoyLock)) }

// Prepare makes the directory, closed to others, unless it is there.
func (d RunDir) Prepare() error {
	for _, socket := range []string{d.XDSSocket(), d.ALSSocket(), d.IntentSocket(), d.file(fileAdmin)} {
		if err := checkSocketPath(socket); err != nil {
			return err
		}
	}
	for _, dir := range []string{string(d), d.file(dirEnded)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("run directory: %w", err)
		}
	}
	return nil
}

// End is the end of an Envoy.
type End struct {
	Epoch string
	// Clean: it ended in order and has written its files to the end.
	Clean bool
}

// Ends are those that were not Forgotten, in no order that means anything.
func (d RunDir) Ends() (out []End, err error) {
	list, err := os.ReadDir(d.file(dirEnded))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("ends of Envoys: %w", err)
	}
	for _, f := range list {
		if strings.HasPrefix(f.Name(), ".") {
			continue // being written
		}
		text, err := os.ReadFile(filepath.Join(d.file(dirEnded), f.Name()))
		if err != nil {
			return nil, fmt.Errorf("ends of Envoys: %w", err)
		}
		out = append(out, End{f.Name(), string(text) == endedInOrderText})
	}
	return slices.Clip(out), nil
}

// Forget an end that is on record elsewhere.
func (d RunDir) Forget(e End) error {
	if err := os.Remove(filepath.Join(d.file(dirEnded), e.Epoch)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("ends of Envoys: %w", err)
	}
	return nil
}

// begin notes an epoch. One that is there already ended without a witness.
func (d RunDir) begin(epoch string) error {
	before, err := os.ReadFile(d.file(fileEpoch))
	if err == nil {
		err = d.end(End{Epoch: strings.TrimSpace(string(before))})
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = writeFile(d.file(fileEpoch), []byte(epoch+"\n"))
	}
	if err != nil {
		return fmt.Errorf("note an Envoy's epoch: %w", err)
	}
	return nil
}

// end notes the end of an epoch, once: the end is there before the epoch goes.
func (d RunDir) end(e End) error {
	if e.Epoch == "" || strings.ContainsAny(e.Epoch, "./") {
		return fmt.Errorf("%s holds %.40q, which is no epoch: remove it", d.file(fileEpoch), e.Epoch)
	}
	text := endedOtherwiseText
	if e.Clean {
		text = endedInOrderText
	}
	if err := writeFile(filepath.Join(d.file(dirEnded), e.Epoch), []byte(text)); err != nil {
		return fmt.Errorf("note the end of an Envoy: %w", err)
	}
	if err := os.Remove(d.file(fileEpoch)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("note the end of an Envoy: %w", err)
	}
	return nil
}

// Epoch of the Envoy that was started last; "" if its end is known.
func (d RunDir) Epoch() string {
	text, err := os.ReadFile(d.file(fileEpoch))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
