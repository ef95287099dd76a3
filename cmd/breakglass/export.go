package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/export"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

type exportOptions struct {
	manifests
	withoutSecrets bool
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
from, and written 0600. --without-secrets leaves them out.`

func newExportCommand() *cobra.Command {
	o := &exportOptions{}
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Write the manifests in use as a directory that serve takes",
		Long:  exportLong,
		Example: `  breakglass export /srv/breakglass-copy
  breakglass export /srv/breakglass-copy --without-secrets
  breakglass export /tmp/normal -c my-repo
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
	_ = cmd.MarkFlagDirname("config") // the flag is right above
	return cmd
}

func (o *exportOptions) run(cmd *cobra.Command, dir string) error {
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
	state := "written"
	if !changed {
		state = "unchanged"
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, %s%s.\n", clean(filepath.Join(dir, export.Link)), count(len(objects), "object"), state, left)
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
	for _, obj := range l.set.Objects() {
		switch obj.Key.Kind {
		case "Activation":
			activations++
			continue
		case "Secret":
			if o.withoutSecrets {
				secrets++
				continue
			}
			if l.client != nil {
				if obj.Object, err = secretFromFile(l.dir, obj); err != nil {
					return nil, "", err
				}
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

// secretFromFile reads a Secret where serve read it, as the one who exports: the
// socket has told of it no more than its certificate.
func secretFromFile(dir string, obj source.Object) (*corev1.Secret, error) {
	path := filepath.Join(dir, obj.Origin.File)
	told := "read it as the user that may, or export with --without-secrets"
	key := types.NamespacedName{Namespace: obj.Key.Namespace, Name: obj.Key.Name}
	sec := source.Load(path).Secrets[key]
	if sec == nil {
		return nil, fmt.Errorf("%s cannot be read from %s, where serve read it: %s", obj.Key, path, told)
	}
	public, ok := obj.Object.(*corev1.Secret)
	if ok && !bytes.Equal(public.Data[corev1.TLSCertKey], sec.Data[corev1.TLSCertKey]) {
		return nil, fmt.Errorf("%s in %s is not the one that serve has in use: export again once serve has read it", obj.Key, path)
	}
	return sec, nil
}
