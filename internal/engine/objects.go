package engine

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/disclose"
)

// Objects are the manifests in use, as far as package disclose tells of them: no
// private key leaves serve this way, whoever asks.
func (b backend) Objects(context.Context) (*control.Objects, error) {
	v := b.view.Load()
	if v == nil {
		return nil, control.Errorf(control.Unavailable, "the manifests are not loaded yet: try again")
	}
	dir, err := filepath.Abs(b.opts.ConfigDir)
	if err != nil {
		return nil, fmt.Errorf("configuration directory %s: %w", b.opts.ConfigDir, err)
	}
	out := &control.Objects{ConfigDir: dir, Items: []control.Object{}}
	for _, o := range v.set.All() {
		told, err := disclose.Object(o.Object, v.set.Policies)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
		file := o.Origin.File // as serve was given the directory, which may be relative to where it was started
		if below, err := filepath.Rel(b.opts.ConfigDir, file); err == nil {
			file = below
		}
		out.Items = append(out.Items, control.Object{File: file, Line: o.Origin.Line, Manifest: told.Manifest, Withheld: told.Withheld, Data: told.Data})
	}
	return out, nil
}
