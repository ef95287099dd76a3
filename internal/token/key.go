package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/go-jose/go-jose/v4"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// maxKeyFile bounds what is read as a key.
const maxKeyFile = 16 << 10

// Key is a private signing key of an offline issuer. It shows only its id when
// it is printed or logged.
type Key struct{ jwk jose.JSONWebKey }

// ID is the key's kid, its RFC 7638 thumbprint if Keygen made it.
func (k *Key) ID() string { return k.jwk.KeyID }

// Algorithm the key signs with, ES256 or EdDSA.
func (k *Key) Algorithm() v1alpha1.Algorithm { return v1alpha1.Algorithm(k.jwk.Algorithm) }

// Public is the public half as a JWKS document, for spec.issuers[].jwks.inline.
func (k *Key) Public() ([]byte, error) {
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k.jwk.Public()}})
}

func (k *Key) String() string       { return "key " + k.ID() }
func (k *Key) GoString() string     { return k.String() }
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Keygen makes a key for alg, ES256 if empty or EdDSA, in a new file with mode
// 0600, and returns its public half as a JWKS document. It never overwrites.
func Keygen(path string, alg v1alpha1.Algorithm) ([]byte, error) {
	k, err := newKey(alg)
	if err != nil {
		return nil, err
	}
	text, err := k.jwk.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("write the key: %w", err)
	}
	// O_EXCL follows no symbolic link either.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists already and is not overwritten, since a key that is lost cannot be had back: choose another name, or move the old file away", path)
	}
	if err != nil {
		return nil, fmt.Errorf("make the key file: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write the key file: %w", err), os.Remove(path))
	}
	return k.Public()
}

func newKey(alg v1alpha1.Algorithm) (*Key, error) {
	var private crypto.Signer
	var err error
	switch alg {
	case "", "ES256":
		alg = "ES256"
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("keys are not made for algorithm %q: use ES256 or EdDSA", string(alg))
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	k := &Key{jwk: jose.JSONWebKey{Key: private, Algorithm: string(alg), Use: "sig"}}
	sum, err := k.jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("name the key: %w", err)
	}
	k.jwk.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	return k, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// LoadKey reads a key that Keygen made. It refuses a file that others can read
// or write. Errors never quote the file.
func LoadKey(path string) (*Key, error) {
	text, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	k := &Key{}
	if err := k.jwk.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("%s is not a private key as a JWK: make one with `breakglass token keygen --key FILE`", path)
	}
	var fits bool
	switch private := k.jwk.Key.(type) {
	case *ecdsa.PrivateKey:
		fits = private.Curve == elliptic.P256() && (k.jwk.Algorithm == "" || k.jwk.Algorithm == "ES256")
		k.jwk.Algorithm = "ES256"
	case ed25519.PrivateKey:
		fits = k.jwk.Algorithm == "" || k.jwk.Algorithm == "EdDSA"
		k.jwk.Algorithm = "EdDSA"
	}
	if !fits {
		return nil, fmt.Errorf("%s is not a private key for ES256 or EdDSA: make one with `breakglass token keygen --key FILE`", path)
	}
	if err := k.whole(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// whole: the two halves belong together. A damaged file would otherwise make
// tokens that nobody takes, found out in the emergency.
func (k *Key) whole() error {
	signer, err := k.signer()
	if err != nil {
		return errors.New("the key cannot sign: make a new one")
	}
	probe := []byte("probe")
	jws, err := signer.Sign(probe)
	if err != nil {
		return errors.New("the key cannot sign: make a new one")
	}
	public := k.jwk.Public()
	if got, err := jws.Verify(public.Key); err != nil || !bytes.Equal(got, probe) {
		return errors.New("the key's halves do not belong together: the file is damaged, make a new key")
	}
	return nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // not to hang on a named pipe
	if err != nil {
		return nil, fmt.Errorf("read the key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the key file: %w", err)
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("%s is not a regular file: name the file that `breakglass token keygen` made", path)
	case mode.Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s can be read or changed by others (mode %04o), so that they can issue tokens: chmod 600 %s, and make a new key if somebody may have read it", path, mode.Perm(), path)
	case info.Size() > maxKeyFile:
		return nil, fmt.Errorf("%s is too large for a key", path)
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}
