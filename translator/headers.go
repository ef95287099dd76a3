package translator

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// headerEdits are what becomes of the headers of a message, one edit for each name.
type headerEdits []headerEdit

// headerEdit of one header. With drop, the values that came are taken away before
// those here are added.
type headerEdit struct {
	name   string
	drop   bool
	values []string
}

// headerModifier reads a filter. It refuses the headers on which the locks depend.
func headerModifier(field string, spec *gwv1.HTTPHeaderFilter) (headerEdits, error) {
	if spec == nil {
		return nil, fmt.Errorf("%s: missing", field)
	}
	var edits headerEdits
	edit := func(list string, i int, name string, drop bool, values ...string) error {
		if lock.Reserved(name) {
			return fmt.Errorf("%s.%s[%d]: header %q is reserved, the gateway's locks depend on it: use another header", field, list, i, name)
		}
		edits = edits.with(headerEdit{name, drop, values})
		return nil
	}
	for i, name := range spec.Remove {
		if err := edit("remove", i, name, true); err != nil {
			return nil, err
		}
	}
	for i, h := range spec.Set {
		if err := edit("set", i, string(h.Name), true, h.Value); err != nil {
			return nil, err
		}
	}
	for i, h := range spec.Add {
		if err := edit("add", i, string(h.Name), false, h.Value); err != nil {
			return nil, err
		}
	}
	return edits, nil
}

// with is e, and then the edit.
func (e headerEdits) with(next headerEdit) headerEdits {
	out := make(headerEdits, 0, len(e)+1)
	for _, had := range e {
		switch {
		case !strings.EqualFold(had.name, next.name):
			out = append(out, had)
		case !next.drop:
			next = headerEdit{had.name, had.drop, append(append([]string{}, had.values...), next.values...)}
		}
	}
	return append(out, next)
}

// then is e, and after it what next does.
func (e headerEdits) then(next headerEdits) headerEdits {
	for _, n := range next {
		e = e.with(n)
	}
	return e
}

// envoy is what Envoy is to add and to remove. It removes first, then overwrites,
// then adds.
func (e headerEdits) envoy() (add []*corev3.HeaderValueOption, remove []string) {
	for _, h := range e {
		if h.drop && len(h.values) == 0 {
			remove = append(remove, h.name)
		}
		for i, v := range h.values {
			action := corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
			if h.drop && i == 0 {
				action = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
			}
			add = append(add, &corev3.HeaderValueOption{
				Header:         &corev3.HeaderValue{Key: h.name, Value: escapePercent(v)},
				AppendAction:   action,
				KeepEmptyValue: true,
			})
		}
	}
	return add, remove
}

// escapePercent keeps Envoy from reading a value as a format string: with one,
// a route could copy the token's claims or its own metadata anywhere.
func escapePercent(v string) string { return strings.ReplaceAll(v, "%", "%%") }
