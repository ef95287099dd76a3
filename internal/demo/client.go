package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/token"
)

// transport reaches the door whatever the host name.
func (t *tour) transport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, t.door)
		},
	}
}

// ask makes one request. Status 0: no answer.
func (t *tour) ask(ctx context.Context, method, host, path, bearer string) (int, string) {
	res, err := t.open(ctx, method, host, path, bearer)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // a cut body is still an answer
	return res.StatusCode, string(body)
}

// open makes a request; the caller closes the body.
func (t *tour) open(ctx context.Context, method, host, path, bearer string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, nil)
	if err != nil {
		return nil, err
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	tr := t.transport()
	tr.DisableKeepAlives = true
	return (&http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
}

// stream is an open stream of server-sent events.
type stream struct {
	status int
	last   time.Time // of the last byte; valid after done
	bytes  int
	done   chan struct{}
}

// listen opens a stream and reads it until it ends.
func (t *tour) listen(ctx context.Context, host, path, bearer string) (*stream, error) {
	res, err := t.open(ctx, http.MethodGet, host, path, bearer) //nolint:bodyclose // the reader below closes it
	if err != nil {
		return nil, err
	}
	s := &stream{status: res.StatusCode, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer res.Body.Close()
		buf := make([]byte, 4096)
		for {
			n, err := res.Body.Read(buf)
			if n > 0 {
				s.last, s.bytes = time.Now(), s.bytes+n
			}
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}

// token of an issuer for groups, good for two minutes.
func (t *tour) token(issuer, key string, groups ...string) (string, error) {
	return token.Issue(t.keys[key], token.Claims{
		Issuer: issuers[issuer], Subject: "alice@example.com", Audience: []string{"breakglass"},
		TTL: 2 * time.Minute, Extra: map[string]any{"groups": groups},
	}, time.Now())
}

// run runs the command line tool and shows the command and what it says.
func (t *tour) run(ctx context.Context, show bool, args ...string) (string, error) {
	return t.runOn(ctx, show, t.dataDir(), args...)
}

// runOn is run on another data directory.
func (t *tour) runOn(ctx context.Context, show bool, dataDir string, args ...string) (string, error) {
	if show {
		var words []string
		for _, a := range args {
			if strings.ContainsAny(a, " ") {
				a = fmt.Sprintf("%q", a)
			}
			words = append(words, a)
		}
		t.say("   $ breakglass %s", strings.Join(words, " "))
	}
	cmd := exec.CommandContext(ctx, t.opts.Self, append(args, "--data-dir", dataDir)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if show {
		for _, line := range strings.Split(strings.TrimRight(out.String(), "\n"), "\n") {
			t.say("     %s", line)
		}
	}
	if err != nil {
		return "", fmt.Errorf("breakglass %s: %w: %s", args[0], err, out.String())
	}
	return out.String(), nil
}

// activate breaks the glass with the command line tool and returns what was
// opened.
func (t *tour) activate(ctx context.Context, route, role, duration string) (*v1alpha1.Activation, error) {
	name := fmt.Sprintf("inc-4711-%d", t.step)
	if _, err := t.run(ctx, true, "activate", route, "--role", role, "--incident", "INC-4711",
		"--reason", "primary ingress is locked down", "--duration", duration, "--name", name); err != nil {
		return nil, err
	}
	namespace, _, _ := strings.Cut(route, "/")
	return t.activation(ctx, namespace, name)
}

func (t *tour) activation(ctx context.Context, namespace, name string) (*v1alpha1.Activation, error) {
	text, err := t.run(ctx, false, "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var s struct{ Activations []v1alpha1.Activation }
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("status -o json: %w", err)
	}
	for i := range s.Activations {
		if a := &s.Activations[i]; a.Namespace == namespace && a.Name == name {
			return a, nil
		}
	}
	return nil, fmt.Errorf("status does not list %s/%s", namespace, name)
}
