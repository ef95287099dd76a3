package lock

import (
	"github.com/google/cel-go/cel"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
)

// The expressions. They are the same for every route: what differs is data, in
// the route's metadata (R) and in the verified token's claims (J). In CEL an
// absent field or a wrong type is an error, and RBAC treats an error as no.
const (
	celR = `xds.route_metadata.filter_metadata['` + MetadataNamespace + `']`
	celH = `metadata.filter_metadata['envoy.filters.http.jwt_authn']['` + headerKey + `']`
	celJ = `metadata.filter_metadata['envoy.filters.http.jwt_authn']['` + payloadKey + `']`

	// celNow is when Envoy had read the request's headers. request.time is no good:
	// it is the request's first byte, and a client can send the rest of the
	// headers long after it.
	celNow = `timestamp(request.headers['` + nowHeader + `'])`

	// celExp and celIat are whole seconds: a fraction is cut off, so a token ends
	// at most a second early and never late.
	celExp = `int(` + celJ + `['exp'])`
	celIat = `int(` + celJ + `['iat'])`

	celClosed = celR + `['answer'] == 'closed'`

	celWindow = celR + `['answer'] == 'locked'` +
		` && ` + celNow + ` < timestamp(` + celR + `['deadline'])` +
		` && ` + celNow + ` < timestamp(` + celExp + `)` +
		// One second of leeway: clocks of issuers are rarely better.
		` && timestamp(` + celIat + `) <= ` + celNow + ` + duration('1s')` +
		` && ` + celExp + ` - ` + celIat + ` <= int(` + celR + `['lifetimes'][` + celJ + `['iss']])` +
		` && ` + celR + `['role'] != ''` +
		// Extensions that change what a signature means (RFC 7515 section 4.1.11, RFC
		// 7797). jwt_authn reads over them, and none is understood here.
		` && !has(` + celH + `.crit) && !has(` + celH + `.b64)`

	celLeft = `(timestamp(` + celExp + `) - ` + celNow + `)`
	// celLeftMillis is never 0, which Envoy would read as "no limit".
	celLeftMillis = celLeft + `.getSeconds() * 1000 + ` + celLeft + `.getMilliseconds() + 1`
)

var (
	exprClosed = mustParse(celClosed)
	exprWindow = mustParse(celWindow)
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
