// Package demo is the tour of `make demo`: the examples, served by a real
// Envoy, with everything that a user would do and everything that must not
// work. It checks each step; the exit code is the truth.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Options of Run.
type Options struct {
	// Self is the breakglass binary that the tour runs.
	Self string
	// EnvoyPath is the Envoy binary; "" lets serve look for one.
	EnvoyPath string
	// Report is the file in which the report of the tour's incident is left; "" leaves
	// none.
	Report string
	// Keep leaves everything serving after the tour until ctx ends.
	Keep bool
	Out  io.Writer
}

// ErrFailed means that a step did not go as it must.
var ErrFailed = errors.New("the demo failed: see the steps marked FAIL above")

// Run is the tour.
func Run(ctx context.Context, o Options) (err error) {
	dir, err := os.MkdirTemp("", "breakglass-demo-")
	if err != nil {
		return err
	}
	t := &tour{opts: o, out: o.Out, dir: dir}
	defer func() {
		err = errors.Join(err, t.close())
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	began := time.Now()
	for _, step := range []func(context.Context) error{
		t.prepare, t.dormant, t.tokens, t.deadline, t.survives, t.revocation, t.timeline, t.auditLog, t.report,
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("%w\n(logs are in %s)", err, dir)
		}
	}
	t.say("\n%d checks in %.0f s, %d failed.", t.checks, time.Since(began).Seconds(), t.failed)
	if o.Keep {
		t.keep(ctx)
	}
	if t.failed > 0 {
		return ErrFailed
	}
	return nil
}

// keep tells what is there and waits.
func (t *tour) keep(ctx context.Context) {
	t.say(`
Still serving. In another terminal:
  export BREAKGLASS_DATA_DIR=%s
  %s status
  TOKEN=$(%s token issue --key %s --issuer %s --audience breakglass --subject you --claim groups=sre-lead,db-oncall,sre)
  %s activate payments/db-failover --role db-failover --incident INC-1 --reason "a look around"
Manifests: %s
Ctrl-C ends it.`, t.dataDir(), t.opts.Self, t.opts.Self, t.keyFile("sso"), issuers["sso"], t.opts.Self, t.configDir())
	<-ctx.Done()
}

func (t *tour) configDir() string            { return filepath.Join(t.dir, "config") }
func (t *tour) dataDir() string              { return filepath.Join(t.dir, "data") }
func (t *tour) keyFile(issuer string) string { return filepath.Join(t.dir, issuer+".key") }

// title begins a step.
func (t *tour) title(format string, args ...any) {
	t.step++
	t.say("\n%d. %s", t.step, fmt.Sprintf(format, args...))
}

func (t *tour) say(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

// check reports one expectation.
func (t *tour) check(ok bool, format string, args ...any) {
	t.checks++
	mark := "ok  "
	if !ok {
		mark = "FAIL"
		t.failed++
	}
	t.say("   %s %s", mark, fmt.Sprintf(format, args...))
}
