package main

import (
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
)

// parseClaims reads --claim and --claim-json, see tokenIssueLong.
func parseClaims(claims []string, text string) (map[string]any, error) {
	out := map[string]any{}
	if text != "" {
		var err error
		if out, err = jwks.DecodeObject([]byte(text)); err != nil {
			return nil, usagef("--claim-json: %w", err)
		}
	}
	// What a name was given in all, in order, so that a list is made once.
	values := map[string][]string{}
	lists := map[string]bool{}
	var names []string
	for _, claim := range claims {
		name, value, ok := strings.Cut(claim, "=")
		if !ok || name == "" {
			return nil, usagef("--claim %q: write NAME=VALUE", claim)
		}
		if _, seen := values[name]; seen {
			lists[name] = true
		} else {
			names = append(names, name)
		}
		parts := strings.Split(value, ",")
		if len(parts) > 1 {
			lists[name] = true
			if parts[len(parts)-1] == "" {
				parts = parts[:len(parts)-1]
			}
		}
		for _, p := range parts {
			if p == "" {
				return nil, usagef("--claim %q: a value is empty", claim)
			}
		}
		values[name] = append(values[name], parts...)
	}
	for _, name := range names {
		var value any = values[name][0]
		if lists[name] {
			value = values[name]
		}
		if err := putClaim(out, name, value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// putClaim sets a claim by its dotted name.
func putClaim(claims map[string]any, name string, value any) error {
	path := strings.Split(name, ".")
	for _, step := range path {
		if step == "" {
			return usagef("--claim %q: a name is empty between the dots; for names with dots in them use --claim-json", name)
		}
	}
	object := claims
	for _, step := range path[:len(path)-1] {
		next, there := object[step]
		if !there {
			next = map[string]any{}
			object[step] = next
		}
		nested, ok := next.(map[string]any)
		if !ok {
			return usagef("--claim %q: %q is set twice, once as a value and once as an object", name, step)
		}
		object = nested
	}
	last := path[len(path)-1]
	if _, there := object[last]; there {
		return usagef("--claim %q: it is set twice", name)
	}
	object[last] = value
	return nil
}
