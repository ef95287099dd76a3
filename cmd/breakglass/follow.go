package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/client"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// follower counts down until an activation ends.
type follower struct {
	client      client.Client
	out, errOut io.Writer
	// redraw one line each second. False: say only how it ends.
	redraw bool
	flags  string
}

// news of an activation: what it is now, or why that cannot be told.
type news struct {
	activation *v1alpha1.Activation
	err        error
}

// run until the activation ends or the user has seen enough. The door closes by
// itself either way, so that neither Ctrl-C nor a serve that is gone is a
// failure.
func (f *follower) run(ctx context.Context, a *v1alpha1.Activation) error {
	key := types.NamespacedName{Namespace: a.Namespace, Name: a.Name}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	heard := make(chan news)
	go f.watch(watch, key, heard)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	lost := false
	for {
		f.draw(a, lost)
		select {
		case <-ctx.Done():
			f.clear()
			_, err := fmt.Fprintf(f.out, "Still open: it closes by itself at %s. Close it now: breakglass revoke %s%s\n", deadlineText(a, time.Now()), key, f.flags)
			return err
		case n := <-heard:
			if control.CodeOf(n.err) == control.NotFound && f.client.Info().Cluster {
				f.clear()
				_, err := fmt.Fprintf(f.out, "Closed: %s: it was deleted\n", key)
				return err
			}
			if n.err != nil {
				lost = f.mourn(lost, n.err)
				break
			}
			lost, a = false, n.activation
			if a.Status.Phase.Final() {
				f.clear()
				_, err := fmt.Fprintf(f.out, "Closed: %s: %s\n", key, ending(a))
				return err
			}
		case <-tick.C:
		}
		if t, ok := deadline(a); lost && ok && !time.Now().Before(t) {
			f.clear()
			_, err := fmt.Fprintf(f.out, "Closed: %s: its deadline %s has passed\n", key, localAndUTC(t, time.Now()))
			return err
		}
	}
}

// ending is how an activation ended.
func ending(a *v1alpha1.Activation) string {
	if s := joinReason(why(a)); s != "" {
		return s
	}
	return string(a.Status.Phase)
}

// mourn says once that serve is gone and what that means.
func (f *follower) mourn(already bool, err error) bool {
	if already {
		return true
	}
	f.clear()
	var what = err.Error()
	if errors.Is(err, control.ErrNotRunning) || control.CodeOf(err) == control.Unavailable {
		what = f.client.Info().Server + " is gone"
	}
	_, _ = fmt.Fprintf(f.errOut, "Warning: %s; Envoy keeps the deadline by itself, still counting\n", clean(what)) // a warning is all it is
	return true
}

// watch tells each change, and asks again a second after an error.
func (f *follower) watch(ctx context.Context, key types.NamespacedName, heard chan<- news) {
	tell := func(n news) bool {
		select {
		case heard <- n:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for {
		_, err := f.client.Wait(ctx, key, func(a *v1alpha1.Activation) bool {
			return !tell(news{activation: a}) || a.Status.Phase.Final()
		})
		if err == nil || !tell(news{err: err}) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (f *follower) draw(a *v1alpha1.Activation, lost bool) {
	t, ok := deadline(a)
	if !f.redraw || !ok {
		return
	}
	state := string(a.Status.Phase)
	if lost {
		state = strings.TrimPrefix(f.client.Info().Server, "breakglass ") + " is gone"
	}
	// \r and \033[K: back to the start of the line, and nothing left of the old one.
	_, _ = fmt.Fprintf(f.out, "\r\033[K%s, %s left (Ctrl-C leaves it open)", state, left(time.Until(t))) // the next second tries again
}

func (f *follower) clear() {
	if f.redraw {
		_, _ = fmt.Fprint(f.out, "\r\033[K") // cosmetic
	}
}
