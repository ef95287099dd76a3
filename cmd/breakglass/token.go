package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/token"
)

func newTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make keys, issue tokens for the day the identity provider is down, and check tokens",
		Long: `Make keys and issue tokens for an offline issuer: one whose key this team itself
holds, for the day the identity provider is down. And find out why a token is
refused, whoever issued it. Nothing here needs a running gateway.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenKeygenCommand(), newTokenIssueCommand(), newTokenCheckCommand())
	return cmd
}

func newTokenKeygenCommand() *cobra.Command {
	var path, alg string
	cmd := &cobra.Command{
		Use:   "keygen --key FILE [--alg ES256|EdDSA]",
		Short: "Make a signing key for an offline issuer",
		Long: `Make a signing key for an offline issuer. The private key goes to a new file that
only you can read; the public half, a JSON Web Key Set, to standard output.

Whoever has the file can issue tokens for every role that grants the issuer. Keep
it as you would keep a root password: offline, and in two places.`,
		Example: `  breakglass token keygen --key offline.jwk > offline.jwks.json`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if alg != "ES256" && alg != "EdDSA" {
				return usagef("--alg %q: use ES256 or EdDSA", alg)
			}
			public, err := token.Keygen(path, v1alpha1.Algorithm(alg))
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), `The private key is in %s. To accept its tokens, add to the EmergencyPolicy:

  spec:
    issuers:
    - name: offline
      issuer: https://offline.example.com   # any URL, the same as token issue --issuer
      audiences: [breakglass]
      algorithms: [%s]
      offline: true
      jwks:
        inline: '%s'

`, clean(path), alg, public)
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", public)
			return err
		},
	}
	cmd.Flags().StringVar(&path, "key", "", "file to make (required)")
	cmd.Flags().StringVar(&alg, "alg", "ES256", "ES256 or EdDSA")
	fixedCompletion(cmd, "alg", "ES256", "EdDSA")
	cobra.CheckErr(cmd.MarkFlagRequired("key"))
	return cmd
}

// tokenIssueOptions are the flags of token issue.
type tokenIssueOptions struct {
	key, issuer, subject string
	audiences, claims    []string
	claimJSON            string
	ttl                  time.Duration
}

const tokenIssueLong = `Issue a token with a key of this team's own, for the day the identity provider is
down. Only the token is written to standard output.

--claim groups=db-oncall       a string
--claim groups=a,b             a list; so is one name that is given twice
--claim realm_access.roles=a,  nested; a comma at the end makes a list of one
--claim-json '{"a b": [1]}'    anything else, such as names with a dot in them`

func newTokenIssueCommand() *cobra.Command {
	var o tokenIssueOptions
	cmd := &cobra.Command{
		Use:   "issue --key FILE --issuer URL --audience A --subject S [--claim NAME=VALUE]...",
		Short: "Issue a token of an offline issuer",
		Long:  tokenIssueLong,
		Example: `  breakglass token issue --key offline.jwk --issuer https://offline.example.com \
    --audience breakglass --subject alice@example.com --claim groups=db-oncall > token`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			extra, err := parseClaims(o.claims, o.claimJSON)
			if err != nil {
				return err
			}
			if o.ttl < token.MinTTL || o.ttl > token.MaxTTL {
				return usagef("--ttl %s: use %s to %s", o.ttl, token.MinTTL, token.MaxTTL)
			}
			key, err := token.LoadKey(o.key)
			if err != nil {
				return err
			}
			text, err := token.Issue(key, token.Claims{
				Issuer: o.issuer, Subject: o.subject, Audience: o.audiences, TTL: o.ttl, Extra: extra,
			}, time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.key, "key", "", "`file` made by breakglass token keygen (required)")
	f.StringVar(&o.issuer, "issuer", "", "spec.issuers[].issuer of the policy (required)")
	f.StringSliceVar(&o.audiences, "audience", nil, "one of spec.issuers[].audiences of the policy (required, repeatable)")
	f.StringVar(&o.subject, "subject", "", "who it is for; it is what the record will show (required)")
	f.StringArrayVar(&o.claims, "claim", nil, "NAME=VALUE, see above (repeatable)")
	f.StringVar(&o.claimJSON, "claim-json", "", "a JSON object of more claims")
	f.DurationVar(&o.ttl, "ttl", token.DefaultTTL, "lifetime, at most 24h and the issuer's maxTokenLifetime")
	for _, name := range []string{"key", "issuer", "audience", "subject"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}
