package sink

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

// secret signs requests as the Standard Webhooks specification says (symmetric
// signatures, v1): HMAC-SHA256 over "ID.TIMESTAMP.BODY".
type secret []byte

// parseSecret takes "whsec_" and base64. Its errors hold nothing of it.
func parseSecret(s string) (secret, error) {
	enc, ok := strings.CutPrefix(s, "whsec_")
	key, err := base64.StdEncoding.DecodeString(enc)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New(`it is no secret: write "whsec_" and the base64 of 24 to 64 random bytes`)
	}
	return key, nil
}

func (s secret) sign(id, at string, body []byte) string {
	m := hmac.New(sha256.New, s)
	m.Write([]byte(id + "." + at + "."))
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}
