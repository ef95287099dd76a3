package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// keep writes what the cluster had last to disk, so that a replica that starts
// while the API server is down serves what was last good, minus what has ended
// since. There are private keys of listeners in it: 0600, as everything here.
type keep struct {
	file string
	log  *slog.Logger
	last func() *outcome
	wake chan struct{}
}

// It is written every atMost, or so rarely that it takes no more than a share of the
// time: with thousands of routes each write is some megabytes. What is being opened
// waits for no more than soon: a start without it would close it.
const (
	atMost = 2 * time.Second
	share  = 50
	soon   = 50 * time.Millisecond
)

// keptFile is the format of the file.
type keptFile struct {
	V       int          `json:"v"` // 1
	Objects []keptObject `json:"objects"`
}

type keptObject struct {
	Kind   string          `json:"kind"`
	Object json.RawMessage `json:"object"`
}

func newKeep(o Options, last func() *outcome) *keep {
	return &keep{file: filepath.Join(o.DataDir, "objects.json"), log: o.Log, last: last, wake: make(chan struct{}, 1)}
}

func (k *keep) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and once more then.
func (k *keep) run(ctx context.Context) {
	var written *source.Set
	var due time.Time // of the next write, if nothing opens
	opened := map[types.NamespacedName]bool{}
	save := func() {
		o := k.last()
		if o == nil || o.set == written {
			return
		}
		if !o.opensMore(opened) && time.Now().Before(due) && ctx.Err() == nil {
			time.AfterFunc(time.Until(due), k.poke)
			return
		}
		began := time.Now()
		defer func() { due = time.Now().Add(max(atMost, share*time.Since(began))) }()
		if err := k.save(o.set); err != nil {
			k.log.Error("cannot keep what the cluster has; a start without an API server would serve something older", "error", err)
			return
		}
		written = o.set
	}
	for {
		select {
		case <-ctx.Done():
			save()
			return
		case <-k.wake:
			save()
		}
		select {
		case <-ctx.Done():
		case <-time.After(soon):
		}
	}
}

// opensMore notes the Activations that are open, or about to be, and reports whether one
// is new among them.
func (o *outcome) opensMore(opened map[types.NamespacedName]bool) bool {
	more := false
	for key, r := range o.result.Records {
		switch {
		case r.Final():
			delete(opened, key)
		case !opened[key]:
			opened[key], more = true, true
		}
	}
	return more
}

func (k *keep) save(set *source.Set) error {
	out := keptFile{V: 1}
	for _, o := range set.All() {
		text, err := json.Marshal(o.Object)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Key, err)
		}
		out.Objects = append(out.Objects, keptObject{o.Key.Kind, text})
	}
	text, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return durable.Replace(k.file, text)
}

// load reads the set; nil without a file.
func (k *keep) load() (*source.Set, error) {
	text, err := os.ReadFile(k.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	set, err := parseKept(text)
	if err != nil {
		return nil, fmt.Errorf("%s is not of this version, or damaged, and was removed: %w", k.file, errors.Join(err, os.Remove(k.file)))
	}
	return set, nil
}

func parseKept(text []byte) (*source.Set, error) {
	var in keptFile
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	if in.V != 1 {
		return nil, fmt.Errorf("its version is %d and should be 1", in.V)
	}
	var objects []source.Object
	for i, o := range in.Objects {
		obj := newOfKind(o.Kind)
		if obj == nil {
			continue // of a later version
		}
		if err := json.Unmarshal(o.Object, obj); err != nil {
			return nil, fmt.Errorf("objects[%d]: %w", i, err)
		}
		key, _ := source.KeyOf(obj)
		objects = append(objects, source.Object{Key: key, Object: obj})
	}
	return source.NewSet(objects), nil
}

func newOfKind(kind string) runtime.Object {
	for _, w := range watched {
		if key, ok := source.KeyOf(w.obj); ok && key.Kind == kind {
			return reflect.New(reflect.TypeOf(w.obj).Elem()).Interface().(client.Object)
		}
	}
	return nil
}
