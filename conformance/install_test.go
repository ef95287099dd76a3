package conformance

import (
	"context"
	"encoding/json"
	"flag"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

var (
	helm  = flag.String("helm", "helm", "helm, to install the chart with")
	tag   = flag.String("image-tag", "dev", "tag of our image")
	chart = flag.String("chart", "../charts/breakglass", "the chart")
)

// install installs the chart as its documentation says, with values.yaml and the key set of a run.
func install(t *testing.T, c client.Client, people *issuer) {
	for _, name := range namespaces {
		makeOnce(t, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	issuers, err := json.Marshal([]any{map[string]any{
		"name": "people", "issuer": issuerURL, "algorithms": []string{"ES256"}, "maxTokenLifetime": tokenLifetime.String(),
		"jwks": map[string]any{"inline": people.keySet(t)},
	}})
	require.NoError(t, err)
	out, err := exec.Command(*helm, "upgrade", "--install", "breakglass", *chart, "--namespace", suite.InfrastructureNamespace,
		"--values", "values.yaml", "--set-json", "policy.issuers="+string(issuers), "--set", "image.tag="+*tag,
		"--wait", "--timeout", "2m").CombinedOutput()
	require.NoError(t, err, string(out))

	// Whoever activates may do that, see routes, and nothing else.
	makeOnce(t, c, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "conformance-routes"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"gateway.networking.k8s.io"}, Resources: []string{"httproutes", "grpcroutes"}, Verbs: []string{"get", "list", "watch"}}},
	})
	for _, role := range []string{"breakglass-activator-" + roleName, "conformance-routes"} {
		makeOnce(t, c, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "conformance-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: operatorName}},
		})
	}
}

func makeOnce(t *testing.T, c client.Client, object client.Object) {
	require.NoError(t, client.IgnoreAlreadyExists(c.Create(context.Background(), object)), object.GetName())
}
