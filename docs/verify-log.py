#!/usr/bin/env python3
"""Verifies a copy of an audit log with nothing of breakglass, and nothing but Python.

    verify-log.py LOG KEY [CHECKPOINTS...]

LOG is a directory with segment-*.jsonl and checkpoint. KEY is the verifier key that
you were given when the log began. CHECKPOINTS are files of checkpoints that you have
kept. Written from the specifications: RFC 6962 2.1 (the tree), RFC 8032 5.1.7
(Ed25519), c2sp.org/signed-note and c2sp.org/tlog-checkpoint. Exit code 0: each
checkpoint is signed with KEY, and the log is what each of them covers. A log from
which entries were removed because of their age, or whose key was changed, is for
`breakglass audit verify`: this reads logs from entry 0 with one key.
"""
import base64, glob, hashlib, os, sys

# Ed25519: curve, base point, and addition in extended coordinates.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n, p):
    q = (0, 1, 1, 0)
    while n:
        if n & 1:
            q = add(q, p)
        p, n = add(p, p), n >> 1
    return q


def point(b):
    y = int.from_bytes(b, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - x2) % P or (x == 0 and sign):
        raise ValueError("not a point of the curve")
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def signed(key, message, sig):
    s = int.from_bytes(sig[32:], "little")
    h = int.from_bytes(hashlib.sha512(sig[:32] + key + message).digest(), "little") % L
    try:
        a, b = times(s, BASE), add(point(sig[:32]), times(h, point(key)))
    except ValueError:
        return False
    return s < L and (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def heads(path, name, keyhash, key):
    """The size and the root of each checkpoint in a file that the key signed."""
    text, found = "", 0
    for line in open(path, encoding="utf-8"):
        if not line.startswith("\u2014 "):
            text += line
            continue
        who, sig = line[2:].split()
        raw = base64.b64decode(sig)
        body = text.strip("\n") + "\n"
        if text and who == name and raw[:4] == keyhash:
            if not signed(key, body.encode(), raw[4:]):
                sys.exit(f"{path}: a signature is not that of the key")
            origin, size, root = body.split("\n")[:3]
            if origin != name:
                sys.exit(f"{path}: a checkpoint of {origin}")
            found += 1
            yield int(size), base64.b64decode(root)
        text = ""
    if not found:
        sys.exit(f"{path}: no checkpoint that the key has signed")


def root(stack):
    r = None
    for _, h in reversed(stack):
        r = h if r is None else hashlib.sha256(b"\x01" + h + r).digest()
    return r if r is not None else hashlib.sha256().digest()


def main(log, vkey, *kept):
    name, hexhash, coded = vkey.split("+", 2)
    kind, key = base64.b64decode(coded)[:1], base64.b64decode(coded)[1:]
    keyhash = hashlib.sha256(name.encode() + b"\n" + kind + key).digest()[:4]
    if kind != b"\x01" or keyhash.hex() != hexhash:
        sys.exit("this is not an Ed25519 verifier key NAME+HASH+BASE64")
    wanted = {}
    for path in (os.path.join(log, "checkpoint"),) + kept:
        for size, r in heads(path, name, keyhash, key):
            if wanted.setdefault(size, r) != r:
                sys.exit(f"two checkpoints of size {size} differ: the log was written anew")
    stack, n = [], 0  # complete subtrees, and leaves
    for segment in sorted(glob.glob(os.path.join(log, "segment-*.jsonl"))):
        for line in open(segment, "rb"):
            if not line.startswith(b'{"v":1,"seq":%d,' % n):
                sys.exit(f"{segment}: entry {n} is not where it should be")
            stack.append((1, hashlib.sha256(b"\x00" + line.rstrip(b"\n")).digest()))
            n += 1
            while len(stack) > 1 and stack[-2][0] == stack[-1][0]:
                (a, left), (b, right) = stack[-2:]
                stack[-2:] = [(a + b, hashlib.sha256(b"\x01" + left + right).digest())]
            if n in wanted and root(stack) != wanted.pop(n):
                sys.exit(f"the first {n} entries are not those that were signed")
    if wanted.pop(0, root([])) != root([]) or wanted:
        sys.exit(f"there are {n} entries, and checkpoints of {sorted(wanted)}: the log was cut back")
    print(f"SOUND: {n} entries of {name}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
