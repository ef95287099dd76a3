package jwks

import (
	"errors"
	"math/big"
	"slices"
)

// Edwards25519, RFC 8032 section 5.1: -x^2 + y^2 = 1 + d x^2 y^2 modulo p.
var (
	one = big.NewInt(1)
	edP = new(big.Int).Sub(new(big.Int).Lsh(one, 255), big.NewInt(19))
	edD = mod(new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), edP)))
)

// checkEdPoint refuses 32 bytes that are no public key. crypto/ed25519 takes any
// 32 bytes for a key. Some are no point, which is only useless; but a point of
// small order is a key with which anybody can sign anything (with the neutral
// element, a signature of zeros fits every message).
func checkEdPoint(b []byte) error {
	le := slices.Clone(b)
	le[31] &= 0x7f // the top bit is the sign of x
	slices.Reverse(le)
	y := new(big.Int).SetBytes(le)
	if y.Cmp(edP) >= 0 {
		return errors.New("is not an Ed25519 key: its x is not in canonical form")
	}
	// x^2 = (y^2 - 1) / (d y^2 + 1)
	yy := mod(new(big.Int).Mul(y, y))
	den := mod(new(big.Int).Add(new(big.Int).Mul(edD, yy), one))
	xx := mod(new(big.Int).Mul(new(big.Int).Sub(yy, one), new(big.Int).ModInverse(den, edP)))
	x := new(big.Int).ModSqrt(xx, edP)
	if x == nil {
		return errors.New("is not a point on Ed25519: it is damaged, or made to attack; take it from its source again")
	}
	for range 3 { // the cofactor is 8
		x, y = edDouble(x, y)
	}
	if x.Sign() == 0 && y.Cmp(one) == 0 {
		return errors.New("is an Ed25519 point of small order, for which anybody can make signatures: remove it")
	}
	return nil
}

// edDouble adds a point to itself. The sign of x does not matter to the order.
func edDouble(x, y *big.Int) (x2, y2 *big.Int) {
	xx, yy, xy := new(big.Int).Mul(x, x), new(big.Int).Mul(y, y), new(big.Int).Mul(x, y)
	k := mod(new(big.Int).Mul(edD, new(big.Int).Mul(xx, yy)))
	x2 = new(big.Int).Mul(new(big.Int).Lsh(xy, 1), new(big.Int).ModInverse(mod(new(big.Int).Add(one, k)), edP))
	y2 = new(big.Int).Mul(new(big.Int).Add(yy, xx), new(big.Int).ModInverse(mod(new(big.Int).Sub(one, k)), edP))
	return mod(x2), mod(y2)
}

func mod(n *big.Int) *big.Int { return n.Mod(n, edP) }
