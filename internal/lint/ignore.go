package lint

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// ignore is one line of the annotation that accepts findings.
type ignore struct {
	id, reason string
	used       bool
}

const ignoreField = "metadata.annotations[" + v1alpha1.LintIgnoreAnnotation + "]"

// readIgnores reads the annotation of every object: one finding per line, or per
// part between semicolons, each an id and the reason.
func (r *run) readIgnores() {
	r.ignores = map[string]map[string]*ignore{}
	for _, o := range r.Set.All() {
		meta, ok := o.Object.(metav1.Object)
		if !ok {
			continue
		}
		text, there := meta.GetAnnotations()[v1alpha1.LintIgnoreAnnotation]
		if !there {
			continue
		}
		list := map[string]*ignore{}
		for part := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == '\n' || c == ';' }) {
			id, reason, _ := strings.Cut(strings.TrimSpace(part), " ")
			if id != "" {
				list[id] = &ignore{id: id, reason: strings.TrimSpace(reason)}
			}
		}
		r.ignores[o.Key.String()] = list
	}
}

// judgeIgnores tells of suppressions that suppress nothing: without a reason they
// do not hold, and a suppression of what is not found hides what may come.
func (r *run) judgeIgnores() {
	for _, o := range r.Set.All() {
		list := r.ignores[o.Key.String()]
		for _, id := range slices.Sorted(maps.Keys(list)) {
			r.judge(o.Key, list[id])
		}
	}
}

func (r *run) judge(key source.ObjectKey, i *ignore) {
	rule := ruleByID(i.id)
	switch {
	case rule == nil:
		r.add(key, ignoreField, "%s is the id of no rule", i.id)
	case i.reason == "":
		r.add(key, ignoreField, "%s is not suppressed: the reason is missing", i.id)
	case !i.used && (!rule.Live || r.Live != nil):
		r.addAs(Info, key, ignoreField, "%s is suppressed and not found", i.id)
	}
}
