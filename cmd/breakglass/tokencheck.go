package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/client"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/internal/token"
)

// tokenCheckOptions are the flags of token check.
type tokenCheckOptions struct {
	backend
	config, policy, role, file string
	// where the manifests are, in words.
	where string
}

const tokenCheckLong = `Say whether a token would be let in, and if not which rule refuses it and what to
do. The rules are those that Envoy enforces, without the window: whether a route
is open is what 'breakglass status' tells.

The token is read from standard input ("-", the default) or from --token-file. It
can be an argument, but then every process of this host can see it.

With ROUTE (NAMESPACE/NAME), policy and role are those of the route: the policy by
its Gateway's class, the role by its label ` + v1alpha1.RoleLabel + `.

The policy is that of the manifests in --config, or else the one that is in use. What
you may not read there is not known: a key set in a Secret, for example.

Exit codes: 0 it would be let in; 1 it would be refused, or something is wrong.` + backendLong

func newTokenCheckCommand() *cobra.Command {
	var o tokenCheckOptions
	cmd := &cobra.Command{
		Use:   "check [TOKEN|-] [ROUTE] [--role ROLE] [--config DIR]",
		Short: "Say why a token would be refused",
		Long:  tokenCheckLong,
		Example: `  breakglass token check --config . - payments/db-failover < token
  breakglass token check --config . --token-file token --role db-failover
  breakglass token check --context prod --token-file token payments/db-failover`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.config, "config", "", "directory of manifests (default: those in use)")
	f.StringVar(&o.policy, "policy", "", "EmergencyPolicy by name, if there are several and no ROUTE is given")
	f.StringVar(&o.role, "role", "", "emergency role (default: that of ROUTE)")
	f.StringVar(&o.file, "token-file", "", "file to read the token from")
	o.addFlags(cmd)
	for _, other := range []string{"kubeconfig", "context", "socket"} {
		cmd.MarkFlagsMutuallyExclusive("config", other)
	}
	_ = cmd.MarkFlagDirname("config") // the flag is right above
	return cmd
}

func (o *tokenCheckOptions) run(cmd *cobra.Command, args []string) error {
	text, args, err := o.token(cmd, args)
	if err != nil {
		return err
	}
	set, err := o.manifests(cmd)
	if err != nil {
		return err
	}
	for _, p := range set.Problems {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "Warning: %s\n", p.Error())
	}
	policy, role, err := o.subject(set, args)
	if err != nil {
		return err
	}
	if policy.Spec.Suspended {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "Warning: EmergencyPolicy %s is suspended: nothing is open, whatever the token says\n", policy.Name)
	}
	keys := map[string]*jwks.Set{}
	for i := range policy.Spec.Issuers {
		issuer := &policy.Spec.Issuers[i]
		keys[issuer.Name], err = issuerKeys(cmd, set, policy.Name, issuer)
		if err != nil {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "Warning: issuer %s has no usable keys: %s\n", issuer.Name, clean(err.Error()))
		}
	}
	verdict := token.Check(policy, keys, role, text, time.Now())
	if !verdict.Allowed {
		return fmt.Errorf("refused with %d, %s: %s", verdict.Status, verdict.Reason, clean(verdict.Message))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Allowed: %s\n", clean(verdict.Message))
	return err
}

// manifests to check against.
func (o *tokenCheckOptions) manifests(cmd *cobra.Command) (*source.Set, error) {
	if o.config != "" {
		if _, err := os.Stat(o.config); err != nil {
			return nil, fmt.Errorf("--config: %w", err)
		}
		o.where = "--config"
		return source.Load(o.config), nil
	}
	c, err := o.open(cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if cluster, is := c.(*client.Cluster); is {
		o.where = "the cluster"
		return cluster.Manifests(cmd.Context())
	}
	o.where = "what serve has in use"
	l, err := (&manifests{connection: o.connection, live: true}).load(cmd)
	if err != nil {
		return nil, err
	}
	defer l.close()
	return l.set, nil
}

// token reads it, and returns what is left of the arguments.
func (o *tokenCheckOptions) token(cmd *cobra.Command, args []string) (text string, rest []string, err error) {
	var data []byte
	switch {
	case o.file != "":
		if len(args) == 2 {
			return "", nil, usagef("the token is given twice: as an argument and as --token-file")
		}
		// "-" would be standard input, and there is a file instead.
		if len(args) == 1 && (args[0] == "-" || strings.Count(args[0], ".") == 2 && !strings.Contains(args[0], "/")) {
			return "", nil, usagef("the token is given twice: as an argument and as --token-file")
		}
		f, err := os.Open(o.file)
		if err != nil {
			return "", nil, fmt.Errorf("--token-file: %w", err)
		}
		defer f.Close()
		data, err = readToken(f)
		return strings.TrimSpace(string(data)), args, err
	case len(args) == 0 || args[0] == "-":
		if f, ok := cmd.InOrStdin().(*os.File); ok && isTerminal(f) {
			_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "Paste the token, then press Enter and Ctrl-D:")
		}
		data, err = readToken(cmd.InOrStdin())
		return strings.TrimSpace(string(data)), args[min(1, len(args)):], err
	case strings.Count(args[0], "/") == 1 && !strings.Contains(args[0], "."):
		return "", nil, usagef("%q looks like a ROUTE: write - before it to read the token from standard input", clean(args[0]))
	}
	_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "Warning: a token that is an argument can be seen by every process of this host: use - or --token-file")
	return args[0], args[1:], nil
}

func readToken(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, 4*token.MaxBytes))
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	return data, nil
}

// issuerKeys resolves an issuer's jwks from the manifests, or a remote one from
// the last good answer of serve, or by a fetch.
func issuerKeys(cmd *cobra.Command, set *source.Set, policy string, issuer *v1alpha1.Issuer) (*jwks.Set, error) {
	src := issuer.JWKS
	var data []byte
	var from string
	switch {
	case src.Inline != nil:
		data, from = []byte(*src.Inline), "jwks.inline"
	case src.SecretRef != nil:
		ref := src.SecretRef
		from = fmt.Sprintf("Secret %s/%s, key %q", ref.Namespace, ref.Name, ref.Key)
		obj := set.Secrets[types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}]
		if obj == nil || obj.Data[ref.Key] == nil {
			return nil, fmt.Errorf("%s does not exist, or is not for you to read", from)
		}
		data = obj.Data[ref.Key]
	case src.ConfigMapRef != nil:
		ref := src.ConfigMapRef
		from = fmt.Sprintf("ConfigMap %s/%s, key %q", ref.Namespace, ref.Name, ref.Key)
		obj := set.ConfigMaps[types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}]
		if obj == nil || obj.Data[ref.Key] == "" {
			return nil, fmt.Errorf("%s does not exist, or is not for you to read", from)
		}
		data = []byte(obj.Data[ref.Key])
	case src.Remote != nil:
		return remoteIssuerKeys(cmd, jwks.Key{Policy: policy, Issuer: issuer.Name}, jwks.Source{RemoteJWKS: *src.Remote, Algorithms: issuer.Algorithms})
	}
	keys, err := jwks.Parse(data, issuer.Algorithms)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return keys, nil
}

func remoteIssuerKeys(cmd *cobra.Command, key jwks.Key, src jwks.Source) (*jwks.Set, error) {
	// What serve uses comes first: it is what the token is judged by.
	if dir, err := dataDir(cmd); err == nil {
		if res, err := jwks.Cached(filepath.Join(dir, "jwks"), key, src, time.Now()); err == nil {
			return res.Set, nil
		}
	}
	keys, _, err := jwks.Fetch(cmd.Context(), src)
	return keys, err
}
