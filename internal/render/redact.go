package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"

	// The message types inside Any that protojson must know.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// body is a resource as plain values, with digests for keys of any kind.
func (s *standIns) body(r *snapshot.Resource, all bool) (any, error) {
	m, err := r.Body.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	s.redact(v, s.secrets[r.Name])
	if r.Type == snapshot.Listener && !all {
		fold(v)
	}
	return whole(v), nil
}

// folded are the parts of a Listener that are the same in every Gateway.
var folded = []string{"http_filters", "access_log", "early_header_mutation_extensions"}

func fold(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range folded {
			if x, there := v[k]; there {
				v[k] = sum(x) + ", shown by --full"
			}
		}
		for _, x := range v {
			fold(x)
		}
	case []any:
		for _, x := range v {
			fold(x)
		}
	}
}

// whole makes whole numbers of those that JSON has as floats, for YAML.
func whole(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = whole(x)
		}
	case []any:
		for i, x := range v {
			v[i] = whole(x)
		}
	case float64:
		if n := int64(v); float64(n) == v {
			return n
		}
	}
	return v
}

func sum(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "redacted" // plain values: it cannot fail
	}
	return digest(b)
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

// redacted are the fields whose value is a key, or may be one: of jwt_authn, and
// of a TLS certificate.
var redacted = map[string]bool{"local_jwks": true, "private_key": true, "password": true, "certificate_chain": true, "session_ticket_keys": true}

func (s *standIns) redact(v any, standIn bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if redacted[k] {
				v[k] = s.digest(x, standIn)
				continue
			}
			s.redact(x, standIn)
		}
	case []any:
		for _, x := range v {
			s.redact(x, standIn)
		}
	}
}

// digest of a DataSource, whatever its form.
func (s *standIns) digest(v any, standIn bool) string {
	source, _ := v.(map[string]any)
	text, inline := source["inline_string"].(string)
	if standIn || s.keys[text] {
		return "stand-in"
	}
	if inline {
		return digest([]byte(text))
	}
	return sum(v)
}
