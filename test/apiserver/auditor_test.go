//go:build apiserver

package apiserver_test

import (
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
)

func TestAnAuditorMayReadTheLogOfTheClusterAndReachesItsPodOnly(t *testing.T) {
	if err := installed.bind(t.Context(), namespace, "breakglass-auditor", "dora"); err != nil {
		t.Fatal(err)
	}
	forward := func(pod, verb string) authorizationv1.ResourceAttributes {
		return authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Resource: "pods", Subresource: "portforward", Name: pod}
	}
	read := authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Group: "breakglass.dev", Resource: "auditlogs"}
	elsewhere := read
	elsewhere.Namespace = "payments"
	for name, test := range map[string]struct {
		user  string
		asked authorizationv1.ResourceAttributes
		want  bool
	}{
		"read the log":                            {"dora", read, true},
		"forward to its pod":                      {"dora", forward("breakglass-audit-0", "create"), true},
		"forward to its pod by WebSocket":         {"dora", forward("breakglass-audit-0", "get"), true},
		"know its certificate":                    {"dora", authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Resource: "configmaps", Name: "breakglass-audit-ca"}, true},
		"read a log of another namespace":         {"dora", elsewhere, false},
		"forward to a controller":                 {"dora", forward("breakglass-controller-0", "create"), false},
		"read the CA's key":                       {"dora", authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Resource: "secrets", Name: "breakglass-ca"}, false},
		"execute in its pod":                      {"dora", authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "create", Resource: "pods", Subresource: "exec", Name: "breakglass-audit-0"}, false},
		"an activator, read the log":              {"alice", read, false},
		"the controller, read the log":            {controller, read, false},
		"the service, ask about a token":          {auditAccount, authorizationv1.ResourceAttributes{Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"}, true},
		"the service, ask about a right":          {auditAccount, authorizationv1.ResourceAttributes{Verb: "create", Group: "authorization.k8s.io", Resource: "subjectaccessreviews"}, true},
		"the service, know who signs for clients": {auditAccount, authorizationv1.ResourceAttributes{Namespace: "kube-system", Verb: "get", Resource: "configmaps", Name: "extension-apiserver-authentication"}, true},
		"the service, read another ConfigMap":     {auditAccount, authorizationv1.ResourceAttributes{Namespace: "kube-system", Verb: "get", Resource: "configmaps", Name: "other"}, false},
		"the service, read Secrets":               {auditAccount, authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Resource: "secrets"}, false},
	} {
		if got := may(t, test.user, test.asked); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
}

const auditAccount = "system:serviceaccount:" + namespace + ":breakglass-audit"
