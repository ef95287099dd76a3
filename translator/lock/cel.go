package lock

import (
	"github.com/google/cel-go/cel"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
)

// The expressions. They are the same for every route: what differs is data, in
// the route's metadata (R) and in the verified token's claims (J). In CEL an
// absent field or a wrong type is an error, and RBAC treats an error as no.
//
// Times are whole microseconds since 1970, and each value is looked up as rarely
// as can be: a look-up costs a microsecond of every request, and so would the
// reading of a time. What needs no arithmetic is a matcher: see windowFilter.
const (
	celR = `xds.route_metadata.filter_metadata['` + MetadataNamespace + `']`
	celJ = `metadata.filter_metadata['` + jwtMetadata + `']['` + payloadKey + `']`

	// celNow is when Envoy had read the request's headers. request.time is no good:
	// it is the request's first byte, and a client can send the rest of the
	// headers long after it.
	celNow = `int(request.headers['` + nowHeader + `'])`
	// nowFormat is what celNow reads.
	nowFormat = `%EMIT_TIME(%s%6f)%`

	// celExp and celIat are whole seconds: a fraction is cut off, so a token ends
	// at most a second early and never late.
	celExp = `int(` + celJ + `['exp'])`
	celIat = `int(` + celJ + `['iat'])`

	celBeforeDeadline = celNow + ` < int(` + celR + `['deadline'])`

	celWindow = celBeforeDeadline +
		` && ` + celNow + ` < ` + celExp + ` * 1000000` +
		// One second of leeway: clocks of issuers are rarely better.
		` && ` + celIat + ` * 1000000 <= ` + celNow + ` + 1000000` +
		` && ` + celExp + ` - ` + celIat + ` <= int(` + celR + `['lifetimes'][` + celJ + `['iss']])`

	// celLeftMillis is never 0, which Envoy would read as "no limit".
	celLeftMillis = `(` + celExp + ` * 1000000 - ` + celNow + `) / 1000 + 1`
)

var (
	exprWindow         = mustParse(celWindow)
	exprBeforeDeadline = mustParse(celBeforeDeadline)
)

// mustParse turns a constant of this file into the form that RBAC takes. It
// runs at start-up, so a mistake shows in every test.
func mustParse(src string) *exprpb.Expr {
	env, err := cel.NewEnv()
	if err != nil {
		panic(err)
	}
	ast, issues := env.Parse(src)
	if issues.Err() != nil {
		panic(issues.Err())
	}
	parsed, err := cel.AstToParsedExpr(ast)
	if err != nil {
		panic(err)
	}
	return parsed.GetExpr()
}
