package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
)

const (
	dbHost       = "db-failover.emergency.example.com"
	rollbackHost = "rollback.emergency.example.com"
	diagHost     = "diagnostics.emergency.example.com"
)

// tolerance of a deadline for this tour, which shares its machine with whatever
// else runs there and says what it saw. `make bench` measures.
const tolerance = 150 * time.Millisecond

func (t *tour) dormant(ctx context.Context) error {
	t.title("Dormant: the rules are ready, and nothing answers")
	tok, err := t.token("sso", "sso", "db-oncall")
	if err != nil {
		return err
	}
	code, _ := t.ask(ctx, "GET", dbHost, "/v1/replica/status", tok)
	t.check(code == 404, "GET %s/v1/replica/status with a good token: %d (want 404)", dbHost, code)
	return nil
}

// tokens breaks the glass and shows who gets in.
func (t *tour) tokens(ctx context.Context) error {
	t.title("Break the glass; then only a short-lived token with the role gets in")
	a, err := t.activate(ctx, "payments/db-failover", "db-failover", "8s")
	if err != nil {
		return err
	}
	t.check(a.Status.Phase == v1alpha1.PhaseLive, "phase %s", a.Status.Phase)
	for _, c := range []struct {
		what        string
		issuer, key string
		group       string
		want        int
	}{
		{"no token", "", "", "", 401},
		{"token signed by somebody else's key", "sso", "offline", "db-oncall", 401},
		{"token without the role", "sso", "sso", "marketing", 403},
		{"token with the role", "sso", "sso", "db-oncall", 200},
		{"offline token, for the day the IdP is down", "offline", "offline", "db-oncall", 200},
	} {
		bearer := ""
		if c.key != "" {
			if bearer, err = t.token(c.issuer, c.key, c.group); err != nil {
				return err
			}
		}
		code, body := t.ask(ctx, "GET", dbHost, "/v1/replica/status", bearer)
		t.check(code == c.want, "%s: %d (want %d)", c.what, code, c.want)
		if code == 200 {
			var seen echo.Request
			if err := json.Unmarshal([]byte(body), &seen); err != nil {
				return fmt.Errorf("the backend's answer: %w", err)
			}
			t.check(seen.Headers.Get("Authorization") == "", "the backend %s saw no token", seen.Backend)
		}
	}
	return nil
}

// deadline watches a stream of the activation of the step before.
func (t *tour) deadline(ctx context.Context) error {
	t.title("At the deadline the route is gone and its open streams are cut")
	a, err := t.activation(ctx, "payments", "inc-4711-3")
	if err != nil {
		return err
	}
	return t.watchEnd(ctx, a.Status.Deadline.Time, true, nil)
}

// watchEnd streams and asks until just after the deadline, and checks both. With
// meanwhile, that is done while the stream is open; alive: the control plane is
// there to withdraw the route.
func (t *tour) watchEnd(ctx context.Context, deadline time.Time, alive bool, meanwhile func() error) error {
	tok, err := t.token("sso", "sso", "db-oncall")
	if err != nil {
		return err
	}
	s, err := t.listen(ctx, dbHost, "/v1/replica/events", tok)
	if err != nil {
		return err
	}
	t.check(s.status == 200, "a stream is open: %d", s.status)
	if meanwhile != nil {
		if err := meanwhile(); err != nil {
			return err
		}
	}
	if err := sleepUntil(ctx, deadline.Add(-15*time.Millisecond)); err != nil {
		return err
	}
	lastOK, refused, code := t.askPast(ctx, deadline, tok)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		t.check(false, "the stream is still open 5 s after the deadline")
		return nil
	}
	t.check(!lastOK.After(deadline.Add(tolerance)) && !refused.IsZero() && !refused.Before(deadline.Add(-tolerance)), "first refusal %s after the deadline: %d", ms(refused.Sub(deadline)), code)
	t.check(!s.last.After(deadline.Add(tolerance)) && s.last.After(deadline.Add(-time.Second)), "last byte of the stream %s after the deadline (%d bytes in all)", ms(s.last.Sub(deadline)), s.bytes)
	if alive {
		if err := t.until(ctx, 2*time.Second, "the route to be withdrawn", func() bool {
			code, _ = t.ask(ctx, "GET", dbHost, "/v1/replica/status", tok)
			return code == 404
		}); err != nil {
			return err
		}
		t.check(true, "afterwards it is dormant again: %d", code)
	}
	return nil
}

// askPast asks until it is refused, and tells when the last good and the first
// refused request began.
func (t *tour) askPast(ctx context.Context, deadline time.Time, tok string) (lastOK, refused time.Time, code int) {
	for refused.IsZero() && time.Now().Before(deadline.Add(5*time.Second)) {
		at := time.Now()
		if code, _ = t.ask(ctx, "GET", dbHost, "/v1/replica/status", tok); code == 200 {
			lastOK = at
		} else {
			refused = at
		}
	}
	return lastOK, refused, code
}

func ms(d time.Duration) string { return fmt.Sprintf("%+.1f ms", float64(d.Microseconds())/1000) }

// survives kills the control plane a second before a deadline.
func (t *tour) survives(ctx context.Context) error {
	t.title("The same with the control plane killed (SIGKILL) a second before the deadline")
	a, err := t.activate(ctx, "payments/db-failover:status", "db-failover", "4s")
	if err != nil {
		return err
	}
	pid := t.serve.Process.Pid
	s, err := t.control.Status(ctx)
	if err != nil {
		return err
	}
	envoy := s.Gateways[0].Envoy.PID
	if err := t.watchEnd(ctx, a.Status.Deadline.Time, false, func() error {
		if err := sleepUntil(ctx, a.Status.Deadline.Add(-time.Second)); err != nil {
			return err
		}
		if err := t.serve.Process.Kill(); err != nil {
			return err
		}
		_ = t.serve.Wait() // killed: its error is no news
		t.say("        serve (pid %d) is dead; Envoy (pid %d) is alone", pid, envoy)
		return nil
	}); err != nil {
		return err
	}
	if err := t.startServe(ctx); err != nil {
		return err
	}
	if s, err = t.control.Status(ctx); err != nil {
		return err
	}
	t.check(s.Gateways[0].Envoy.PID == envoy, "a new serve has adopted Envoy pid %d", s.Gateways[0].Envoy.PID)
	if a, err = t.activation(ctx, "payments", a.Name); err != nil {
		return err
	}
	t.check(a.Status.Phase == v1alpha1.PhaseExpired, "and knows that the activation is %s", a.Status.Phase)
	return nil
}

func sleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// revocation closes early, and disturbs nobody else.
func (t *tour) revocation(ctx context.Context) error {
	t.title("Revocation cuts what is open, at once, and nothing else")
	a, err := t.activate(ctx, "observability/diagnostics", "diagnostics-readonly", "10m")
	if err != nil {
		return err
	}
	if _, err := t.run(ctx, false, "activate", "delivery/deploy-rollback", "--role", "deploy-rollback", "--incident", "INC-4711",
		"--reason", "bad release", "--duration", "10m"); err != nil {
		return err
	}
	tok, err := t.token("sso", "sso", "sre", "sre-lead")
	if err != nil {
		return err
	}
	s, err := t.listen(ctx, diagHost, "/logs/stream", tok)
	if err != nil {
		return err
	}
	t.check(s.status == 200, "a stream on %s is open: %d", diagHost, s.status)
	began := time.Now()
	if _, err := t.run(ctx, true, "revoke", "observability/"+a.Name, "--reason", "false alarm"); err != nil {
		return err
	}
	returned := time.Now()
	<-s.done
	t.check(!s.last.After(returned.Add(50*time.Millisecond)), "the stream ended %s after the command began", ms(s.last.Sub(began)))
	code, _ := t.ask(ctx, "GET", diagHost, "/logs/x", tok)
	t.check(code != 200, "the route answers %d", code)
	code, _ = t.ask(ctx, "GET", rollbackHost, "/api/releases", tok)
	t.check(code == 200, "another open route still answers %d", code)
	_, err = t.run(ctx, true, "revoke", "--all")
	return err
}

// timeline shows who did what, and checks that it is all there.
func (t *tour) timeline(ctx context.Context) error {
	t.title("Who did what")
	text, err := t.run(ctx, true, "timeline")
	if err != nil {
		return err
	}
	for _, want := range []string{"requested", "opened", "expired", "revoked", "denied", "alice@example.com"} {
		t.check(strings.Contains(text, want), "the timeline tells of %q", want)
	}
	return nil
}

// auditLog shows that nobody has to be believed: the log verifies, and an edited
// copy of it does not.
func (t *tour) auditLog(ctx context.Context) error {
	t.title("And nobody has to be believed: the audit log proves it")
	if _, err := t.run(ctx, true, "audit", "verify"); err != nil {
		t.check(false, "the log does not verify: %v", err)
		return nil
	}
	t.check(true, "the log is whole: one entry a request, no gap, signed")
	copied := filepath.Join(t.dir, "copy")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(t.dataDir(), "log"))); err != nil {
		return err
	}
	segments, err := filepath.Glob(filepath.Join(copied, "segment-*.jsonl"))
	if err != nil || len(segments) == 0 {
		return errors.Join(err, fmt.Errorf("no segments in %s", copied))
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		return err
	}
	edited := strings.Replace(string(text), "alice@example.com", "nancy@example.com", 1)
	t.check(edited != string(text), "in a copy of it somebody puts another name in place of alice@example.com")
	if err := os.WriteFile(segments[0], []byte(edited), 0o600); err != nil {
		return err
	}
	_, err = t.runOn(ctx, false, copied, "audit", "verify")
	t.check(err != nil, "that copy is found out: %s", finding(err))
	return nil
}

// report leaves what a reviewer of all this reads.
func (t *tour) report(ctx context.Context) error {
	t.title("What the reviewer gets: one page")
	file := t.opts.Report
	if file == "" {
		file = filepath.Join(t.dir, "INC-4711.html")
	}
	began := time.Now()
	if _, err := t.run(ctx, true, "report", "--incident", "INC-4711", "--file", file); err != nil {
		t.check(false, "no report, or the log is not sound: %v", err)
		return nil
	}
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	t.check(strings.Contains(string(page), "alice@example.com"), "the report has who came, verified and written in %s", time.Since(began).Round(time.Millisecond))
	if t.opts.Report != "" {
		t.say("   Look at it: %s", file)
	}
	return nil
}

// finding is the line after FINDINGS.
func finding(err error) string {
	if err == nil {
		return ""
	}
	_, rest, _ := strings.Cut(err.Error(), "FINDINGS\n")
	line, _, _ := strings.Cut(rest, "\n")
	return line
}
