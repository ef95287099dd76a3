// Package crds holds the CustomResourceDefinitions of the objects that are
// read: ours as generated from api/v1alpha1, and the Gateway API's, copied byte for
// byte from the module that go.mod names: of the standard channel, but for HTTPRoute,
// whose retries are in the experimental one only.
//
// The file mode validates manifests with these very schemas, so that what it
// accepts is what an API server with the same CRDs would accept.
package crds

import "embed"

// FS holds one CRD per file, named as controller-gen names them:
// <group>_<plural>.yaml.
//
//go:embed *.yaml
var FS embed.FS
