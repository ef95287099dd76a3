//go:build helm

package chart_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Every right of the controller, as "role group/resource [names] verb", and why it has it. A row more
// or less than what is rendered is an error.
var allowed = map[string]string{}

func init() {
	row := func(reason, role, resource string, verbs ...string) {
		for _, v := range verbs {
			allowed[role+" "+resource+" "+v] = reason
		}
	}
	read, write := []string{"get", "list", "watch"}, []string{"update", "patch"}
	everywhere, here, secrets := "ClusterRole", "Role:breakglass-system", "Role:breakglass-system:secrets"

	row("which class is ours, and its policy", everywhere, "gateway.networking.k8s.io/gatewayclasses", read...)
	row("the doors and their listeners", everywhere, "gateway.networking.k8s.io/gateways", read...)
	row("the dormant routes, and whether one attaches elsewhere too", everywhere, "gateway.networking.k8s.io/httproutes", read...)
	row("more listeners of the doors", everywhere, "gateway.networking.k8s.io/listenersets", read...)
	row("the same of gRPC", everywhere, "gateway.networking.k8s.io/grpcroutes", read...)
	row("which namespaces share backends and certificates", everywhere, "gateway.networking.k8s.io/referencegrants", read...)
	row("how backends are spoken to", everywhere, "gateway.networking.k8s.io/backendtlspolicies", read...)
	row("conditions of the Gateway API", everywhere, "gateway.networking.k8s.io/backendtlspolicies/status", write...)
	row("conditions of the Gateway API", everywhere, "gateway.networking.k8s.io/gatewayclasses/status", write...)
	row("conditions of the Gateway API", everywhere, "gateway.networking.k8s.io/gateways/status", write...)
	row("conditions of the Gateway API", everywhere, "gateway.networking.k8s.io/listenersets/status", write...)
	row("conditions of the Gateway API, and whether the route is live", everywhere, "gateway.networking.k8s.io/httproutes/status", write...)
	row("the same of gRPC", everywhere, "gateway.networking.k8s.io/grpcroutes/status", write...)
	row("who breaks the glass", everywhere, "breakglass.dev/activations", read...)
	row("who may, for how long", everywhere, "breakglass.dev/emergencypolicies", read...)
	row("what became of it", everywhere, "breakglass.dev/activations/status", write...)
	row("the verdicts on what was opened", everywhere, "breakglass.dev/activationreviews", read...)
	row("whether a verdict is accepted", everywhere, "breakglass.dev/activationreviews/status", write...)
	row("whether it is accepted, whether issuers have keys", everywhere, "breakglass.dev/emergencypolicies/status", write...)
	row("labels by which namespaces opt in", everywhere, "/namespaces", read...)
	row("backends", everywhere, "/services", read...)
	row("addresses of backends", everywhere, "discovery.k8s.io/endpointslices", read...)
	for _, policy := range []string{"mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		row("nothing opens unless they are in force", everywhere, "admissionregistration.k8s.io/"+policy+"[breakglass-activations,breakglass-activationreviews]", read...)
	}
	row("each step of an Activation is told", everywhere, "/events", "create", "patch")
	row("each step of an Activation is told", everywhere, "events.k8s.io/events", "create", "patch")

	own := append(slices.Clone(read), "create", "update", "patch", "delete")
	row("the Envoys of a Gateway", here, "apps/deployments", own...)
	row("their address", here, "/services", own...)
	row("their identity, without a token", here, "/serviceaccounts", own...)
	row("the CA and the certificates for xDS", here, "/secrets", own...)
	row("not all of a fleet is evicted at once", here, "policy/poddisruptionbudgets", own...)
	row("who reaches a fleet", here, "networking.k8s.io/networkpolicies", own...)
	row("which Envoys there are", here, "/pods", read...)
	row("who leads, and what the Envoys of each replica serve", here, "coordination.k8s.io/leases", "get", "list", "watch", "create", "update", "patch")

	row("by which readers know the audit log service", here, "/configmaps", "create")
	row("by which readers know the audit log service", here, "/configmaps[breakglass-audit-ca]", "patch")

	row("certificates of listeners and of Gateways, keys of issuers", secrets, "/secrets", read...)
	row("keys of issuers, authorities of backends", secrets, "/configmaps", read...)
}

type role struct {
	kind, namespace, name string
	rules                 []rbacv1.PolicyRule
}

func roles(t *testing.T, objects []*unstructured.Unstructured) []role {
	t.Helper()
	var out []role
	for _, o := range objects {
		if o.GetKind() != "Role" && o.GetKind() != "ClusterRole" {
			continue
		}
		var r rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &r, o.GetKind() == "ClusterRole"); err != nil {
			t.Fatal(err)
		}
		out = append(out, role{o.GetKind(), o.GetNamespace(), o.GetName(), r.Rules})
	}
	return out
}

func TestTheControllerHasNoRightWithoutAReason(t *testing.T) {
	got := map[string]bool{}
	for _, r := range roles(t, rendered(t, "default")) {
		var where string
		switch {
		case r.kind == "ClusterRole" && r.name == "breakglass-controller":
			where = "ClusterRole"
		case r.kind == "Role" && r.name == "breakglass-controller-secrets":
			where = "Role:" + r.namespace + ":secrets"
		case r.kind == "Role":
			where = "Role:" + r.namespace
		default:
			continue
		}
		for _, rule := range r.rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						names := ""
						if len(rule.ResourceNames) > 0 {
							names = "[" + strings.Join(rule.ResourceNames, ",") + "]"
						}
						got[where+" "+group+"/"+resource+names+" "+verb] = true
					}
				}
			}
		}
	}
	for _, right := range slices.Sorted(maps.Keys(got)) {
		if allowed[right] == "" {
			t.Errorf("the controller may %s, and no row says why", right)
		}
	}
	for _, right := range slices.Sorted(maps.Keys(allowed)) {
		if !got[right] {
			t.Errorf("the controller may not %s, which it needs: %s", right, allowed[right])
		}
	}
}

func TestNoRoleHasAWildcardAndOnlyTheViewerAggregates(t *testing.T) {
	for _, name := range cases(t) {
		objects := rendered(t, name)
		for _, r := range roles(t, objects) {
			for _, rule := range r.rules {
				for _, s := range slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs, rule.ResourceNames, rule.NonResourceURLs) {
					if strings.Contains(s, "*") {
						t.Errorf("%s: %s %s has %q", name, r.kind, r.name, s)
					}
				}
			}
		}
		for _, o := range objects {
			for label := range o.GetLabels() {
				if strings.HasPrefix(label, "rbac.authorization.k8s.io/") && (o.GetName() != "breakglass-viewer" || label != "rbac.authorization.k8s.io/aggregate-to-view") {
					t.Errorf("%s: %s %s has the label %s", name, o.GetKind(), o.GetName(), label)
				}
			}
		}
	}
}

func TestSecretsAreReadInListedNamespacesOnly(t *testing.T) {
	in := map[string]bool{}
	for _, r := range roles(t, rendered(t, "full")) {
		for _, rule := range r.rules {
			if !slices.Contains(rule.Resources, "secrets") && !slices.Contains(rule.Resources, "configmaps") {
				continue
			}
			if slices.Equal(rule.ResourceNames, []string{"breakglass-audit-ca"}) {
				continue // public keys
			}
			if r.kind != "Role" {
				t.Errorf("%s reads Secrets or ConfigMaps of every namespace", r.name)
			}
			in[r.namespace] = true
		}
	}
	if got := slices.Sorted(maps.Keys(in)); !slices.Equal(got, []string{"breakglass-system", "door", "issuer-keys"}) {
		t.Errorf("Secrets are read in %v", got)
	}
}

// Nobody who may activate may also revoke, or the other way round, or write policies.
func TestARoleForPeopleHasOnePart(t *testing.T) {
	writes := map[string][]string{}
	for _, r := range roles(t, rendered(t, "full")) {
		if strings.HasPrefix(r.name, "breakglass-controller") || r.name == "breakglass-audit" {
			continue
		}
		for _, rule := range r.rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					if !slices.Contains([]string{"get", "list", "watch"}, verb) {
						writes[r.name] = append(writes[r.name], resource+" "+strings.Join(rule.ResourceNames, ",")+" "+verb)
					}
				}
			}
		}
	}
	want := map[string][]string{
		"breakglass-author": {
			"httproutes  create", "httproutes  update", "httproutes  patch", "httproutes  delete",
			"grpcroutes  create", "grpcroutes  update", "grpcroutes  patch", "grpcroutes  delete",
		},
		"breakglass-activator":                      {"activations  create"},
		"breakglass-activator-db-failover":          {"activations  create", "emergencyroles db-failover activate"},
		"breakglass-activator-deploy-rollback":      {"activations  create", "emergencyroles deploy-rollback activate"},
		"breakglass-activator-diagnostics-readonly": {"activations  create", "emergencyroles diagnostics-readonly activate"},
		"breakglass-auditor":                        {"pods/portforward breakglass-audit-0 create"}, // the way to what it reads
		"breakglass-revoker":                        {"activations  update", "activations  patch"},
		"breakglass-reviewer":                       {"activationreviews  create"},
		"breakglass-policy-admin":                   {"emergencypolicies  create", "emergencypolicies  update", "emergencypolicies  patch", "emergencypolicies  delete"},
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !slices.Equal(writes[name], want[name]) {
			t.Errorf("%s may write %q, want %q", name, writes[name], want[name])
		}
		delete(writes, name)
	}
	if len(writes) > 0 {
		t.Errorf("others write: %v", writes)
	}
}

func TestTheAuditLogServiceAsksWhoReadsAndNothingElse(t *testing.T) {
	var got []string
	for _, r := range roles(t, rendered(t, "default")) {
		if r.name != "breakglass-audit" {
			continue
		}
		for _, rule := range r.rules {
			got = append(got, strings.Join(rule.Resources, ",")+" "+strings.Join(rule.Verbs, ","))
		}
	}
	if want := []string{"tokenreviews create", "subjectaccessreviews create"}; !slices.Equal(got, want) {
		t.Errorf("it may %q, want %q", got, want)
	}
	for _, o := range rendered(t, "default") {
		if o.GetKind() != "RoleBinding" && o.GetKind() != "ClusterRoleBinding" {
			continue
		}
		var b rbacv1.RoleBinding
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &b); err != nil {
			t.Fatal(err)
		}
		if b.Subjects[0].Name == "breakglass-audit" && b.RoleRef.Name != "breakglass-audit" && b.RoleRef.Name != "extension-apiserver-authentication-reader" {
			t.Errorf("it has the role %s", b.RoleRef.Name)
		}
	}
}

// As before there was one: no object, no right and no flag is there because of it.
func TestWithoutTheAuditLogServiceNothingIsThereForIt(t *testing.T) {
	text, err := template(t, "--values", "testdata/full.values.yaml", "--set", "audit.service.enabled=false", "--set-json", "audit.service.sinks=[]")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range parse(t, text) {
		if strings.HasPrefix(o.GetName(), "breakglass-audit") {
			t.Errorf("there is a %s %s", o.GetKind(), o.GetName())
		}
	}
	for _, word := range []string{"audit-service", "breakglass-audit-ca", "--sinks", "BreakglassAuditService"} {
		if strings.Contains(text, word) {
			t.Errorf("there is %q", word)
		}
	}
}
