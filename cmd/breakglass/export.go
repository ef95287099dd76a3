package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/breakglass-gateway/breakglass-gateway/internal/disclose"
	"github.com/breakglass-gateway/breakglass-gateway/internal/export"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

type exportOptions struct {
	manifests
	withoutSecrets bool
	exportCluster
}

const exportLong = `Write the manifests that the running serve has in use (or with -c those of a
directory) to DIR, as a directory that serve takes: one object per file, in normal
form, defaults written out. A jump host with such a copy can serve on the day the
first host is gone.

DIR is replaced as a whole: DIR/manifests is a link to the revision in use and is
renamed over the one before, so that a serve that watches DIR has the old one or
the new one and never half. If nothing has changed nothing is written. DIR must be
new, empty, or made by an earlier export.

Activations are left out: what is open here must not open there, too. Secrets never
cross the control socket; they are read again from the files that serve read them
from, and written 0600. One that is not there as serve has it in use, because it was
edited since or is broken, is an error. --without-secrets leaves Secrets out.

With --from-cluster it writes what a serve on a jump host needs to be the way in
while the API server of a cluster is down: emergency Gateways, the routes attached
to them, what these reach, and public keys; with --watch it keeps DIR current until
it is stopped. DIR is never replaced by what is not complete, not valid, or without
any Gateway. Serve binds loopback unless --address says otherwise. Private keys of
listeners are left out unless --with-private-keys says otherwise. What is not as in
the cluster is told on standard error.`

func newExportCommand() *cobra.Command {
	o := &exportOptions{}
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Write the manifests in use as a directory that serve takes",
		Long:  exportLong,
		Example: `  breakglass export /srv/breakglass-copy
  breakglass export /srv/breakglass-copy --without-secrets
  breakglass export /tmp/normal -c my-repo
  breakglass export /srv/breakglass/cluster --from-cluster --watch --address 10.0.0.7
  breakglass serve --config /srv/breakglass-copy --data-dir /var/lib/breakglass`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name the one directory to write to")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", "", "directory, or file, of manifests to export (default: those that the running serve has in use)")
	f.BoolVar(&o.withoutSecrets, "without-secrets", false, "leave Secrets out: certificates, and key sets that are in one")
	o.connection.addFlags(cmd)
	o.exportCluster.addFlags(cmd)
	_ = cmd.MarkFlagDirname("config") // the flag is right above
	return cmd
}

func (o *exportOptions) run(cmd *cobra.Command, dir string) error {
	from, err := o.wanted(cmd)
	if err != nil {
		return err
	}
	if from {
		return o.exportCluster.run(cmd, dir)
	}
	o.live = o.config == ""
	if o.config != "" {
		if err := exportApart(o.config, dir); err != nil {
			return err
		}
	}
	l, err := o.load(cmd)
	if err != nil {
		return err
	}
	defer l.close()
	if l.client != nil {
		if err := exportApart(l.dir, dir); err != nil {
			return err
		}
	}
	if err := l.sound(cmd.ErrOrStderr(), o.name()); err != nil {
		return err
	}
	objects, left, err := o.objects(l)
	if err != nil {
		return err
	}
	busy := working(cmd.ErrOrStderr(), "writing "+dir)
	changed, err := export.Write(dir, objects)
	busy.done()
	if err != nil {
		return err
	}
	return sayExported(cmd.ErrOrStderr(), dir, len(objects), changed, left)
}

func sayExported(errOut io.Writer, dir string, objects int, changed bool, left string) error {
	state := "written"
	if !changed {
		state = "unchanged"
	}
	_, err := fmt.Fprintf(errOut, "%s: %s, %s%s.\n", clean(filepath.Join(dir, export.Link)), count(objects, "object"), state, left)
	return err
}

// exportApart refuses a target that would be read as part of its own source.
func exportApart(config, dir string) error {
	if !isBelow(config, dir) {
		return nil
	}
	return usagef("%s is inside %s, and would be read as manifests: name a directory outside of it", dir, config)
}

// objects to write, and in words what is left out.
func (o *exportOptions) objects(l *loaded) (objects []source.Object, left string, err error) {
	secrets, activations := 0, 0
	for _, obj := range l.set.All() {
		switch obj.Key.Kind {
		case "Activation":
			activations++
			continue
		case "Secret":
			if o.withoutSecrets {
				secrets++
				continue
			}
		}
		if l.told[obj.Key].Withheld {
			if obj.Object, err = fromFile(l, obj); err != nil {
				return nil, "", err
			}
		}
		objects = append(objects, obj)
	}
	var parts []string
	if activations > 0 {
		parts = append(parts, count(activations, "Activation"))
	}
	if secrets > 0 {
		parts = append(parts, count(secrets, "Secret"))
	}
	if len(parts) > 0 {
		left = "; left out: " + strings.Join(parts, " and ")
	}
	return slices.Clip(objects), left, nil
}

// fromFile reads an object where serve read it, as the one who exports: there is
// more in it than the socket has told.
func fromFile(l *loaded, obj source.Object) (runtime.Object, error) {
	path := filepath.Join(l.dir, obj.Origin.File)
	whole := source.Load(path).Object(obj.Key)
	if whole == nil {
		remedy := "read it as the user that may"
		if obj.Key.Kind == "Secret" {
			remedy += ", or export with --without-secrets"
		}
		return nil, fmt.Errorf("%s cannot be read from %s, where serve read it: %s", obj.Key, path, remedy)
	}
	o := whole.(runtime.Object) // all kinds are
	now, err := disclose.Object(o, l.set.Policies)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", obj.Key, err)
	}
	inUse := l.told[obj.Key]
	if !now.Is(disclose.Told{Manifest: inUse.Manifest, Data: inUse.Data}) {
		return nil, fmt.Errorf("%s in %s is not the one that serve has in use: export again once serve has read it; breakglass status says whether something is wrong with it", obj.Key, path)
	}
	return o, nil
}
