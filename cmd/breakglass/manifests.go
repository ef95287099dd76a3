package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// manifests says where a command finds manifests: in a directory, or in a serve
// that runs.
type manifests struct {
	connection
	config string
	live   bool
}

func (m *manifests) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&m.config, "config", "c", "", "directory, or file, of manifests")
	cmd.Flags().BoolVar(&m.live, "live", false, "take the manifests that the running serve has in use")
	m.connection.addFlags(cmd)
	_ = cmd.MarkFlagDirname("config") // the flag is right above
}

// one of the two must be given, and only one.
func (m *manifests) check() error {
	switch {
	case m.config == "" && !m.live:
		return usagef("name a directory of manifests with -c DIR, or use --live for those that the running serve has in use")
	case m.config != "" && m.live:
		return usagef("-c and --live name two sources of manifests: choose one")
	}
	return nil
}

func (m *manifests) name() string {
	if m.live {
		return "the running serve"
	}
	return m.config
}

// loaded are manifests, and where they came from.
type loaded struct {
	set *source.Set
	// dir that files' names are relative to; "": the working directory.
	dir string
	// client of the serve that they came from. Nil: it was a directory.
	client *control.Client
	// told is what that serve said of each.
	told map[source.ObjectKey]control.Object
}

func (m *manifests) load(cmd *cobra.Command) (*loaded, error) {
	busy := working(cmd.ErrOrStderr(), "reading "+m.name())
	defer busy.done()
	if !m.live {
		return loadDir(m.config)
	}
	client, err := m.dial()
	if err != nil {
		return nil, err
	}
	l := &loaded{client: client}
	objects, err := client.Objects(cmd.Context())
	if err == nil {
		l.dir = objects.ConfigDir
		l.set, l.told, err = setOf(objects)
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return l, nil
}

func (l *loaded) close() {
	if l.client != nil {
		l.client.Close()
	}
}

func loadDir(dir string) (*loaded, error) {
	set := source.Load(dir)
	if len(set.Origins) == 0 && len(set.Problems) == 0 {
		return nil, fmt.Errorf("no objects in %s: manifests end in .yaml, .yml or .json", dir)
	}
	return &loaded{set: set}, nil
}

func setOf(in *control.Objects) (*source.Set, map[source.ObjectKey]control.Object, error) {
	objects := make([]source.Object, 0, len(in.Items))
	told := make(map[source.ObjectKey]control.Object, len(in.Items))
	for _, item := range in.Items {
		key, obj, err := source.FromManifest(item.Manifest)
		if err != nil {
			return nil, nil, fmt.Errorf("the running serve sent a manifest that is not understood: %w", err)
		}
		objects = append(objects, source.Object{Key: key, Object: obj, Origin: source.Origin{File: item.File, Line: item.Line}})
		told[key] = item
	}
	return source.NewSet(objects), told, nil
}

// sound tells of manifests that are wrong, since serve would leave them out and
// what is shown of the rest would mislead.
func (l *loaded) sound(errOut io.Writer, name string) error {
	for _, p := range l.set.Problems {
		if _, err := fmt.Fprintln(errOut, p.Error()); err != nil {
			return err
		}
	}
	if n := len(l.set.Problems); n > 0 {
		return fmt.Errorf("%s in %s: correct them first, with breakglass validate %s", count(n, "problem"), name, shellQuote(name))
	}
	return nil
}

// atFlag is a time of the command line; empty: now.
func atFlag(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return now.UTC().Truncate(time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usagef("--at %q: write an RFC 3339 time, such as 2026-11-24T03:00:00Z", text)
	}
	return t.UTC(), nil
}

// parseKey reads NAMESPACE/NAME.
func parseKey(flag, text string) (types.NamespacedName, error) {
	ns, name, ok := strings.Cut(text, "/")
	if !ok || ns == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, usagef("%s %q: write NAMESPACE/NAME", flag, text)
	}
	return types.NamespacedName{Namespace: ns, Name: name}, nil
}
