"""Credits: coins of 2^j nano that a mint signs blind, and spends of them that nobody can alter.

A mint that sees a credit spent cannot tell whom it sold it to. A credit is m and C = k*H(m), where
k is the mint's key for its value: the buyer shows r*H(m), the mint answers k*r*H(m) with a proof
that it used the key it published for everybody (a key of one's own would be a tag), the buyer
divides by r (Chaum 1983; on groups without pairings: Wagner 1996). C is never sent: a spend shows m
and one `auth` over its terms, keyed by the C of its coins. Only the mint can check that, on line.

This is a verifiable oblivious pseudorandom function in the sense of RFC 9497 on the prime-order
group of ed25519 (the RFC names ristretto255): an instantiation of our own, which nobody has
audited. Points and scalars are 32 bytes, scalars little-endian and below the group's order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b, sha256, sha512
from hmac import compare_digest
from itertools import chain
from typing import Final, NamedTuple

from nacl import bindings as sodium

from ledger.fields import I63, U32, VERSION, integer, items, octets, read_map
from ledger.money import Nano
from ledger.tick import MAX_TICKS
from p2p import codec
from p2p.codec import Value
from p2p.errors import BadSignature, CodecError, Insufficient
from p2p.identity import SIGNATURE_SIZE, AdnlId, Identity, short_id
from p2p.identity import verify as verify_signature

LEAST: Final = 10
MOST: Final = 27
"""Exponents of the least and the greatest credit: 1,024 nano to 0.134 TON."""

_KEYS: Final = MOST - LEAST + 1


def _bundle(top: int) -> tuple[int, ...]:
    return tuple(chain.from_iterable((j, j) for j in range(LEAST, top + 1)))


BUNDLES: Final[Mapping[str, tuple[int, ...]]] = {
    "S": _bundle(20),
    "M": _bundle(23),
    "L": _bundle(25),
}
"""What is sold: two credits of every value up to a top, 0.0042, 0.0336 and 0.1342 TON.

Only three sizes, so that a purchase says little; two of each compose every multiple of the least
credit up to the whole.
"""


def worth(exponents: Iterable[int]) -> Nano:
    """The sum of credits of these exponents."""
    return Nano(sum(1 << j for j in exponents))


def bundle_for(amount: Nano, least: str) -> str:
    """The smallest bundle, from `least` up, that is worth `amount`; the greatest if none is."""
    names = list(BUNDLES)
    names = names[names.index(least) :]
    return next((name for name in names if worth(BUNDLES[name]) >= amount), names[-1])


# --- the group ---


def is_point(data: bytes) -> bool:
    """Whether bytes from outside are a point of the prime-order group, and not its identity."""
    return len(data) == 32 and sodium.crypto_core_ed25519_is_valid_point(data)


def hash_to_point(m: bytes) -> bytes:
    """A point of which nobody knows the logarithm. Two maps, since one is not uniform."""
    h = sha512(b"tussah/credit/1/h2c" + m).digest()
    first = sodium.crypto_core_ed25519_from_uniform(h[:32])
    return sodium.crypto_core_ed25519_add(first, sodium.crypto_core_ed25519_from_uniform(h[32:]))


_times = sodium.crypto_scalarmult_ed25519_noclamp
_base_times = sodium.crypto_scalarmult_ed25519_base_noclamp
_minus = sodium.crypto_core_ed25519_sub
_reduced = sodium.crypto_core_ed25519_scalar_reduce


def _times_foreign(scalar: bytes, point: bytes) -> bytes:
    """A multiple of bytes from outside. Raises `CodecError` for what `is_point` refuses.

    libsodium looks at the point again whenever it multiplies it, and refuses the same ones; to ask
    `is_point` first would be a fifth of the work of signing.
    """
    try:
        return _times(scalar, point)
    except (RuntimeError, TypeError) as error:
        raise CodecError("no point of the group") from error


def _is_scalar(data: bytes) -> bool:
    """Reduced and not zero."""
    return len(data) == 32 and any(data) and _reduced(data + bytes(32)) == data


# --- buying: blind, sign, unblind ---


class Secret(NamedTuple):
    """What makes a credit ours; the same again from the same seed."""

    m: bytes
    r: bytes
    """The blinding scalar."""

    def __repr__(self) -> str:
        return "Secret(...)"


def derive(seed: bytes, mint: AdnlId, epoch: int, i: int) -> Secret:
    """The secret of the `i`-th credit of a mint's epoch. An `i` is used once."""
    number = mint + epoch.to_bytes(4, "little") + i.to_bytes(8, "little")
    m = blake2b(number, key=seed, person=b"tussah.credit.m", digest_size=32).digest()
    return Secret(m, _reduced(blake2b(number, key=seed, person=b"tussah.credit.r").digest()))


def blind(m: bytes, r: bytes) -> bytes:
    """B: what the mint sees of a credit that it signs."""
    return _times(r, hash_to_point(m))


def mint_key(master: bytes, epoch: int, j: int) -> bytes:
    """k: a mint's key for credits of 2^j nano."""
    number = epoch.to_bytes(4, "little") + j.to_bytes(1, "little")
    return _reduced(blake2b(number, key=master, person=b"tussah.mint.key").digest())


def public_key(k: bytes) -> bytes:
    """K: what a keyset says of k."""
    return _base_times(k)


class Signed(NamedTuple):
    """A blind signature, and the proof that it was made with the published key."""

    point: bytes
    """C'"""
    c: bytes
    s: bytes


def sign(k: bytes, K: bytes, B: bytes) -> Signed:  # noqa: N803 - points are capital letters
    """Sign a blinded credit; the same again for the same B. Raises `CodecError` for no point.

    The nonce comes from the key and what is signed, as in Ed25519: a repeated request gets the same
    bytes, and no bad source of randomness gives the key away.
    """
    point = _times_foreign(k, B)
    t = _reduced(blake2b(K + B + point, key=k, person=b"tussah.dleq.t").digest())
    c = _challenge(K, B, point, _base_times(t), _times(t, B))
    s = sodium.crypto_core_ed25519_scalar_add(t, sodium.crypto_core_ed25519_scalar_mul(c, k))
    return Signed(point, c, s)


def unblind(K: bytes, r: bytes, B: bytes, signed: Signed) -> bytes:  # noqa: N803
    """C of the credit blinded as `B` by `r`. Raises `BadSignature`: the mint used another key.

    The proof is that of equal logarithms (Chaum and Pedersen 1992), made non-interactive.
    """
    point, c, s = signed
    if not (_is_scalar(c) and _is_scalar(s)):
        raise BadSignature("a mint's signature comes without a proof")
    try:
        blinded = _minus(_times(s, B), _times_foreign(c, point))
    except CodecError as error:
        raise BadSignature("a mint's signature is no point") from error
    base = _minus(_base_times(s), _times(c, K))
    if c != _challenge(K, B, point, base, blinded):
        raise BadSignature("a mint did not sign with the key that it published")
    return _times(sodium.crypto_core_ed25519_scalar_invert(r), point)


def _challenge(*parts: bytes) -> bytes:
    return _reduced(sha512(b"tussah/credit/1/dleq" + b"".join(parts)).digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """A coin that can be spent."""

    mint: AdnlId
    epoch: int
    i: int
    """Its number in `derive`."""
    j: int
    """It is worth 2^j nano."""
    m: bytes = field(repr=False)
    C: bytes = field(repr=False)

    @property
    def value(self) -> Nano:
        """What it is worth."""
        return Nano(1 << self.j)


def nullifier(K: bytes, m: bytes) -> bytes:  # noqa: N803
    """What a mint keeps of a spent credit, lest it be spent again."""
    return sha256(b"tussah/credit/1/nul" + K + m).digest()


# --- the keys of a mint ---

EPOCH_SECONDS: Final = 7 * 86_400
"""A keyset is sold for a week: of fewer buyers each one would be known by its epoch."""

_SPENDABLE: Final = 4 * EPOCH_SECONDS
_SWAPPABLE: Final = 8 * EPOCH_SECONDS
_MAX_KEYSET: Final = 800
"""bytes of a signed keyset; the longest there can be takes 763."""
_KEYSET_DOMAIN: Final = b"tussah/keyset/1\0"
_MAX_FEE: Final = 10_000
"""1/10,000 of the price: the fee never exceeds what is bought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyset:
    """What a mint publishes of one epoch. Its digest stands in the mint's advert.

    All times are Unix time. Two keysets signed for one epoch are proof of fraud.
    """

    mint: AdnlId
    epoch: int
    start: int
    keys: tuple[bytes, ...]
    """K of the exponents from `LEAST` to `MOST`."""
    fee_bp: int
    """1/10,000 of what is bought, paid on top of it."""
    signed: bytes = field(repr=False)
    """The keyset as it travels: `body | signature`."""

    @classmethod
    def build(
        cls, identity: Identity, master: bytes, *, epoch: int, start: int, fee_bp: int
    ) -> "Keyset":
        """Publish an epoch; the same again from the same keys."""
        ks = [mint_key(master, epoch, j) for j in range(LEAST, MOST + 1)]
        keys = tuple(public_key(k) for k in ks)
        body = codec.pack(
            {
                "v": VERSION,
                "suite": _SUITE,
                "mint": identity.id,
                "epoch": epoch,
                "start": start,
                "K": keys,
                "fee_bp": fee_bp,
            }
        )
        signed = body + identity.sign(_KEYSET_DOMAIN + body)
        return cls.parse(signed, identity.public)

    @classmethod
    def parse(cls, signed: bytes, mint_public: bytes) -> "Keyset":
        """A keyset of the mint with this key. Raises `BadSignature`, or `CodecError`."""
        if not SIGNATURE_SIZE < len(signed) <= _MAX_KEYSET:
            raise CodecError("a keyset of a wrong length")
        body, signature = signed[:-SIGNATURE_SIZE], signed[-SIGNATURE_SIZE:]
        if not verify_signature(mint_public, _KEYSET_DOMAIN + body, signature):
            raise BadSignature("the keyset's signature is not the mint's")
        keyset = _keyset(read_map(body, _MAX_KEYSET, _KEYSET_FIELDS), signed)
        if keyset.mint != short_id(mint_public):
            raise BadSignature("the keyset names another mint")
        return keyset

    @property
    def digest(self) -> bytes:
        """SHA-256 of the signed keyset: everybody must see the same one."""
        return sha256(self.signed).digest()

    def key(self, j: int) -> bytes:
        """K of credits of 2^j nano."""
        return self.keys[j - LEAST]

    def price(self, exponents: Iterable[int]) -> Nano:
        """What credits of these exponents cost, the fee rounded up."""
        total = worth(exponents)
        return total + (total * self.fee_bp).ceil_div(10_000)

    def on_sale(self, now: float) -> bool:
        """Whether its credits are sold."""
        return self.start <= now < self.start + EPOCH_SECONDS

    def spendable(self, now: float) -> bool:
        """Whether its credits can be locked."""
        return now < self.start + _SPENDABLE

    def swappable(self, now: float) -> bool:
        """Whether its credits can be exchanged for the newest; afterwards they are nothing."""
        return now < self.start + _SWAPPABLE


_SUITE: Final = 1
_KEYSET_FIELDS: Final = ("v", "suite", "mint", "epoch", "start", "K", "fee_bp")


def _keyset(fields: Mapping[str, Value], signed: bytes) -> Keyset:
    if integer(fields["suite"], U32) != _SUITE:
        raise CodecError("a keyset of another suite")
    return Keyset(
        mint=AdnlId(octets(fields["mint"])),
        epoch=integer(fields["epoch"], U32),
        start=integer(fields["start"], U32),
        keys=tuple(_point(K) for K in items(fields["K"], _KEYS, _KEYS)),
        fee_bp=integer(fields["fee_bp"], _MAX_FEE),
        signed=signed,
    )


# --- spending ---

MAX_COINS: Final = 64
"""credits of one spend: 0.5 ms of a mint's time to check them, at 8,500 a second."""

MAX_BLANKS: Final = _KEYS
"""points for change: one a value, as each binary digit of the change occurs once."""

MAX_SPEND: Final = 3_584
"""bytes of a spend; the longest there can be takes 3,244."""

_LIMIT: Final = 1 << (MOST + 1)
"""nano: below this, any change has no more digits than there are values."""


def choose(coins: Sequence[Credit], amount: Nano) -> tuple[Credit, ...]:
    """Credits that cover `amount`, with the least excess, and then the fewest of them.

    All of one mint and one epoch, else `ValueError`. Raises `Insufficient`, also if it takes more
    than fit one spend.
    """
    _check_same_keyset(coins)
    return _cover(coins, amount, MAX_COINS)


def _cover(coins: Sequence[Credit], amount: Nano, most: int) -> tuple[Credit, ...]:
    """From the greatest down, take what does not exceed the rest of the amount.

    Values divide each other. So if the rest cannot be met exactly, the best cover ends with a
    credit that was too great when its turn came. Each such is a candidate; a later one exceeds by
    less or as much, and is of no fewer credits.
    """
    taken: list[Credit] = []
    best: tuple[Credit, ...] | None = None
    excess, left = _LIMIT, amount.value
    for coin in sorted(coins, key=lambda coin: (-coin.j, coin.i)):
        if len(taken) == most or not left:
            break
        if coin.value.value <= left:
            taken.append(coin)
            left -= coin.value.value
        elif coin.value.value - left < excess:
            best, excess = (*taken, coin), coin.value.value - left
    cover = best if left else tuple(taken)
    if cover is None or worth(coin.j for coin in cover) >= Nano(_LIMIT):
        raise Insufficient(f"no credits for {amount}")
    return cover


def _check_same_keyset(coins: Sequence[Credit]) -> None:
    if any((coin.mint, coin.epoch) != (coins[0].mint, coins[0].epoch) for coin in coins):
        raise ValueError("credits of different keysets")


def owner_of(secret: bytes) -> bytes:
    """What a spend says of the secret that fetches its change."""
    return sha256(b"tussah/change" + secret).digest()


def change_exponents(change: Nano) -> tuple[int, ...]:
    """The credits that change is paid in, ascending: its binary digits from `LEAST` up.

    What is below the least credit is nobody's change. Raises `ValueError` above what fits.
    """
    if change.value >= _LIMIT:
        raise ValueError(f"{change} has more digits than there are credits")
    return tuple(j for j in range(LEAST, MOST + 1) if change.value >> j & 1)


def blanks_for(amount: Nano) -> int:
    """How many blanks the change of so much can take: one a binary digit.

    More would tell no less, since the amount stands in the spend; the mint looks at each of them.
    """
    return (amount.value >> LEAST).bit_length()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendTerms:
    """What a spend says besides its coins."""

    mint: AdnlId
    epoch: int
    payee: AdnlId
    session: bytes
    """32 bytes: SHA-256 of the offer."""
    expiry: int
    """Unix time at which the lock ends."""
    tick: Nano
    ticks: int
    root: bytes
    """The end of the chain of ticks."""
    blanks: tuple[bytes, ...]
    """Blinded credits for the change; the mint chooses what each is worth."""
    owner: bytes
    """`owner_of` the secret that fetches the change."""


@dataclass(frozen=True)
class Spend:
    """Credits given to one payee for one session, unalterable by anybody who passes it on."""

    terms: SpendTerms
    coins: tuple[tuple[int, bytes], ...]
    """Exponent and m of each."""
    auth: bytes
    """Over everything else; only the mint can check it."""

    @classmethod
    def build(cls, coins: Sequence[Credit], terms: SpendTerms) -> "Spend":
        """Spend these coins. Raises `ValueError` for terms that no mint takes."""
        shown = sorted(coins, key=lambda coin: (coin.j, coin.m))  # says nothing of when bought
        bare = cls(terms, tuple((coin.j, coin.m) for coin in shown), bytes(32))
        keys = [_coin_key(coin.m, coin.C) for coin in shown]
        spend = cls(terms, bare.coins, _auth(keys, bare.body))
        try:
            return cls.parse(spend.encode())
        except CodecError as error:
            raise ValueError(str(error)) from error

    @classmethod
    def parse(cls, data: bytes) -> "Spend":
        """A spend within all bounds, its `auth` not checked. Raises `CodecError`."""
        fields = read_map(data, MAX_SPEND, _SPEND_FIELDS)
        if fields["t"] != "spend":
            raise CodecError("not a spend")
        coins = tuple(_coin(item) for item in items(fields["coins"], 1, MAX_COINS))
        spend = cls(_terms(fields), coins, octets(fields["auth"]))
        _check_sums(spend, integer(fields["amount"], _LIMIT - 1))
        # Canonical: it would be encoded the same.
        vars(spend)["lock_id"] = sha256(data).digest()
        vars(spend)["body"] = _without_auth(data, spend.amount)
        return spend

    @cached_property
    def amount(self) -> Nano:
        """The sum of its coins."""
        return worth(j for j, _ in self.coins)

    @cached_property
    def body(self) -> bytes:
        """What `auth` covers: all of the map but itself."""
        return codec.pack(self._map())

    def encode(self) -> bytes:
        """The canonical map, as it travels."""
        return codec.pack({**self._map(), "auth": self.auth})

    @cached_property
    def lock_id(self) -> bytes:
        """SHA-256 of the spend as it travels: the name of its lock."""
        return sha256(self.encode()).digest()

    def _map(self) -> dict[str, Value]:
        terms = self.terms
        return {
            "t": "spend",
            "v": VERSION,
            "mint": terms.mint,
            "epoch": terms.epoch,
            "coins": self.coins,
            "payee": terms.payee,
            "session": terms.session,
            "expiry": terms.expiry,
            "amount": self.amount.value,
            "tick": terms.tick.value,
            "ticks": terms.ticks,
            "root": terms.root,
            "blanks": terms.blanks,
            "owner": terms.owner,
        }


def check(spend: Spend, keys: Mapping[int, bytes]) -> Nano:
    """What a spend is worth to the mint that has these k by exponent. Raises `BadSignature`."""
    if any(j not in keys for j, _ in spend.coins):
        raise BadSignature("a credit of a value that this mint does not sign")
    coin_keys = [_coin_key(m, _times(keys[j], hash_to_point(m))) for j, m in spend.coins]
    if not compare_digest(_auth(coin_keys, spend.body), spend.auth):
        raise BadSignature("a spend without its credits, or altered")
    return spend.amount


def _coin_key(m: bytes, C: bytes) -> bytes:  # noqa: N803
    return sha512(b"tussah/credit/1/key" + m + C).digest()[:32]


def _auth(coin_keys: Sequence[bytes], body: bytes) -> bytes:
    key = sha256(b"".join(coin_keys)).digest()
    return blake2b(body, key=key, person=b"tussah.spend", digest_size=32).digest()


def _without_auth(data: bytes, amount: Nano) -> bytes:
    """The canonical map less its entry `auth`, the second of fifteen; `amount` is the first."""
    at = len(codec.pack({"amount": amount.value}))
    return bytes([data[0] - 1]) + data[1:at] + data[at + _AUTH_SIZE :]


_AUTH_SIZE: Final = len(codec.pack({"auth": bytes(32)})) - 1

_SPEND_FIELDS: Final = (
    *("t", "v", "mint", "epoch", "coins", "payee", "session", "expiry"),
    *("amount", "tick", "ticks", "root", "blanks", "owner", "auth"),
)


def _terms(fields: Mapping[str, Value]) -> SpendTerms:
    return SpendTerms(
        mint=AdnlId(octets(fields["mint"])),
        epoch=integer(fields["epoch"], U32),
        payee=AdnlId(octets(fields["payee"])),
        session=octets(fields["session"]),
        expiry=integer(fields["expiry"], I63),
        tick=Nano(integer(fields["tick"], _LIMIT - 1, 1)),
        ticks=integer(fields["ticks"], MAX_TICKS, 1),
        root=octets(fields["root"]),
        blanks=tuple(_point(B) for B in items(fields["blanks"], 0, MAX_BLANKS)),
        owner=octets(fields["owner"]),
    )


def _check_sums(spend: Spend, amount: int) -> None:
    terms = spend.terms
    if amount != spend.amount.value or terms.tick.value * terms.ticks > amount:
        raise CodecError("a spend of another amount")
    if len(dict.fromkeys(m for _, m in spend.coins)) != len(spend.coins):
        raise CodecError("a spend that shows a credit twice")
    if len(dict.fromkeys(terms.blanks)) != len(terms.blanks):
        raise CodecError("a spend that shows a blank twice")


def _coin(value: Value) -> tuple[int, bytes]:
    j, m = items(value, 2, 2)
    return integer(j, MOST, LEAST), octets(m)


def _point(value: Value) -> bytes:
    point = octets(value)
    if not is_point(point):
        raise CodecError("not a point of the group")
    return point
