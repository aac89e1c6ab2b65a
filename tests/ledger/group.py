"""The ed25519 group in plain integers (RFC 8032 section 5.1, RFC 9380 sections 6.7 and 6.8).

An independent reference for credits: slow, not constant-time, and without a line of libsodium.
"""

from hashlib import sha512

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
MONTGOMERY_A = 486662

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def inverse(x: int) -> int:
    return pow(x, P - 2, P)


def square_root(x: int) -> int | None:
    root = pow(x, (P + 3) // 8, P)
    for candidate in (root, root * SQRT_M1 % P):
        if candidate * candidate % P == x % P:
            return candidate
    return None


def add(p: Point, q: Point) -> Point:
    (x1, y1), (x2, y2) = p, q
    cross = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * inverse(1 + cross) % P
    y = (y1 * y2 + x1 * x2) * inverse(1 - cross) % P
    return x, y


def negate(p: Point) -> Point:
    return -p[0] % P, p[1]


# Multiples in extended coordinates: an inversion at each addition would take minutes.

Extended = tuple[int, int, int, int]


def _extend(p: Point) -> Extended:
    return p[0], p[1], 1, p[0] * p[1] % P


def _plus(p: Extended, q: Extended) -> Extended:
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n: int, p: Point) -> Point:
    total, power = _extend(IDENTITY), _extend(p)
    while n:
        if n & 1:
            total = _plus(total, power)
        power = _plus(power, power)
        n >>= 1
    z = inverse(total[2])
    return total[0] * z % P, total[1] * z % P


def encode(p: Point) -> bytes:
    return (p[1] | (p[0] & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    """None off the curve or in another than the canonical form."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & 2**255 - 1
    if y >= P:
        return None
    x = square_root((y * y - 1) * inverse(D * y * y + 1))
    if x is None or (x == 0 and sign):
        return None
    return (x if x & 1 == sign else -x % P), y


def is_point(data: bytes) -> bool:
    """In the subgroup of prime order, and not the identity."""
    p = decode(data)
    return p is not None and p != IDENTITY and times(L, p) == IDENTITY


_GENERATOR = decode((4 * inverse(5) % P).to_bytes(32, "little"))
assert _GENERATOR is not None
GENERATOR: Point = _GENERATOR


def map_to_point(data: bytes) -> Point:
    """Elligator 2 (Bernstein, Hamburg, Krasnova, Lange 2013) with libsodium's choices.

    The low 255 bits are the field element, the high bit is the sign of x; times the cofactor.
    """
    r = int.from_bytes(data, "little") & 2**255 - 1
    sign = data[31] >> 7
    u = -MONTGOMERY_A * inverse(1 + 2 * r * r) % P
    if square_root(u * (u * u + MONTGOMERY_A * u + 1)) is None:
        u = (-u - MONTGOMERY_A) % P
    y = (u - 1) * inverse(u + 1) % P
    x = square_root((y * y - 1) * inverse(D * y * y + 1))
    assert x is not None
    p = (x if x & 1 == sign else -x % P), y
    return times(8, p)


def scalar(data: bytes) -> int:
    return int.from_bytes(data, "little") % L


def hash_to_point(m: bytes) -> Point:
    h = sha512(b"tussah/credit/1/h2c" + m).digest()
    return add(map_to_point(h[:32]), map_to_point(h[32:]))


def challenge(*points: Point) -> int:
    encoded = b"".join(encode(p) for p in points)
    return scalar(sha512(b"tussah/credit/1/dleq" + encoded).digest())
