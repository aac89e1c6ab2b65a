"""An advert: what one node says of itself, signed, in at most 768 bytes.

`body | signature`: the body is the canonical map of `fields.py`, the signature Ed25519 over
`"tussah/advert/1\\0" | body`. There is no free text but a model's short label, no version and no
hardware name, since each would be a fingerprint. Checks run cheapest first: `read` does those that
need no cryptography, `verify` the rest, so that a directory can refuse an old one in between.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, NamedTuple, NewType

from p2p import defaults
from p2p.errors import AdvertError
from p2p.identity import SIGNATURE_SIZE, AdnlId, Identity, short_id
from p2p.identity import verify as verify_signature
from p2p.onion.path import Role as Role
from p2p.overlay import fields as body_of
from p2p.overlay.fields import Anchors as Anchors
from p2p.overlay.fields import Capacity as Capacity
from p2p.overlay.fields import Fields as Fields
from p2p.overlay.fields import Model as Model
from p2p.overlay.fields import OnionKey as OnionKey
from p2p.overlay.fields import Prices as Prices
from p2p.overlay.fields import host_of, refuse, three_bits
from p2p.wire import Endpoint

Digest = NewType("Digest", bytes)
"""First 16 bytes of an advert's SHA-256: which body it is."""

DOMAIN: Final = b"tussah/advert/1\0"
VERSION: Final = 1

DAY: Final = 86_400
"""seconds of an onion-key day, and of a day of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a network asks of its adverts; a `dev` network lives on one machine or a private LAN."""

    network: int
    dev: bool = False

    @property
    def epoch(self) -> float:
        """Seconds that a life is counted in: the directory epoch."""
        return defaults.DEV_EPOCH if self.dev else defaults.EPOCH

    @property
    def lives(self) -> tuple[float, float]:
        """Shortest and longest life, in seconds."""
        epochs = defaults.DEV_LIFE_EPOCHS if self.dev else defaults.LIFE_EPOCHS
        return self.epoch, self.epoch * epochs

    @property
    def usual_life(self) -> int:
        """Seconds an advert lives if its fields do not say."""
        return int(self.epoch) * defaults.USUAL_LIFE_EPOCHS


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """An advert as read from its bytes; believed only after `verify`."""

    buffer: bytes
    digest: Digest
    id: AdnlId
    public: bytes
    issued: int
    fields: Fields

    @property
    def seq(self) -> int:
        """Which of a node's adverts is newest."""
        return self.fields.seq

    @property
    def roles(self) -> Role:
        """What the node offers; none at all is how it says that it leaves."""
        return self.fields.roles

    @property
    def addresses(self) -> tuple[Endpoint, ...]:
        """Where it can be dialled over libp2p."""
        return self.fields.addresses

    @property
    def onion(self) -> OnionKey | None:
        """Its key for circuits."""
        return self.fields.onion

    @property
    def attachments(self) -> tuple[AdnlId, ...]:
        """Relays that hold a link to it."""
        return self.fields.attachments

    @property
    def models(self) -> tuple[Model, ...]:
        """What it serves."""
        return self.fields.models

    @property
    def request_cap(self) -> int:
        """Bytes of the largest request it takes."""
        kib = self.fields.request_cap
        return 1024 * (defaults.REQUEST_CAP if kib is None else kib)

    @property
    def expires(self) -> int:
        """Unix time from which it says nothing."""
        return self.issued + self.fields.life


class Evidence(NamedTuple):
    """Two adverts of one node and seq, each signed: anyone can check its fault."""

    first: bytes
    second: bytes


def build(identity: Identity, fields: Fields, now: float, rules: Rules) -> bytes:
    """The advert's bytes, issued now. Too long: labels are dropped, then the last models.

    Raises `ValueError` for fields that no reader would take: our own bug or setting.
    """
    issued = int(now)
    fields = replace(
        fields,
        network=rules.network,
        seq=fields.seq or issued,
        life=fields.life or rules.usual_life,
        models=tuple(_rounded(model) for model in fields.models),
    )
    for smaller in _shrinking(fields):
        buffer = _sign(identity, smaller, issued)
        if len(buffer) <= defaults.MAX_ADVERT:
            _check_own(buffer, now, rules)
            return buffer
    raise ValueError("no advert of these fields is short enough")


def parse(buffer: bytes, now: float, rules: Rules) -> Advert:
    """A believed advert. Raises `AdvertError`, whose argument names the rule that it breaks."""
    advert = read(buffer, now, rules)
    verify(advert, rules)
    return advert


def read(buffer: bytes, now: float, rules: Rules) -> Advert:
    """Everything but work and signature. Raises `AdvertError`."""
    if not SIGNATURE_SIZE < len(buffer) <= defaults.MAX_ADVERT:
        refuse("length")
    body = body_of.unpack_body(buffer[:-SIGNATURE_SIZE], defaults.MAX_ADVERT)
    body_of.integer(body.get(0), "version", VERSION, least=VERSION)
    fields = body_of.read_fields(body)
    public = body_of.binary(body.get(2), "public key", 32)
    issued = body_of.integer(body.get(4), "issued", body_of.U32)
    _check_whole(fields, rules)
    _check_times(issued, fields.life, now, rules)
    return Advert(
        buffer=buffer,
        digest=digest_of(buffer),
        id=short_id(public),
        public=public,
        issued=issued,
        fields=fields,
    )


def verify(advert: Advert, rules: Rules) -> None:
    """The dear checks: work, then signature. Raises `AdvertError`."""
    check_work(advert, rules)
    body, signature = advert.buffer[:-SIGNATURE_SIZE], advert.buffer[-SIGNATURE_SIZE:]
    if not verify_signature(advert.public, DOMAIN + body, signature):
        refuse("signature")


def check_work(advert: Advert, rules: Rules) -> None:
    """One hash, before anything is spent on an advert. Raises `AdvertError`."""
    work = advert.fields.work
    if not rules.dev and (work is None or not is_work(advert.public, advert.issued // DAY, work)):
        refuse("work")


def digest_of(buffer: bytes) -> Digest:
    """Which body this is; known before anything of it is read."""
    return Digest(sha256(buffer).digest()[:16])


def _check_whole(fields: Fields, rules: Rules) -> None:
    """The rules that join fields, and those that a dev network is spared."""
    if fields.network != rules.network:
        refuse("network")
    addresses = fields.addresses + fields.udp
    if (Role.DIALABLE in fields.roles) != bool(addresses):
        refuse("addresses are there if dialable, and only then")
    if fields.roles and not addresses and not fields.attachments:
        refuse("no way to reach it")
    if fields.roles & (Role.RELAY | Role.WORKER | Role.MINT) and fields.onion is None:
        refuse("onion key")
    if not rules.dev and not all(host_of(endpoint).is_global for endpoint in addresses):
        refuse("private address")


def _check_times(issued: int, life: int, now: float, rules: Rules) -> None:
    least, most = rules.lives
    if not least <= life <= most:
        refuse("life")
    if issued > now + defaults.CLOCK_SLACK:
        refuse("issued in the future")
    if issued + life <= now:
        refuse("expired")


# --- building ---


def _shrinking(fields: Fields) -> Iterator[Fields]:
    yield fields
    bare = tuple(replace(model, label="") for model in fields.models)
    for count in range(len(bare), 0, -1):
        yield replace(fields, models=bare[:count])


def _rounded(model: Model) -> Model:
    return replace(
        model,
        prompt_rate=three_bits(model.prompt_rate),
        answer_rate=three_bits(model.answer_rate),
    )


def _sign(identity: Identity, fields: Fields, issued: int) -> bytes:
    body = body_of.pack_fields(fields, version=VERSION, public=identity.public, issued=issued)
    return body + identity.sign(DOMAIN + body)


def _check_own(buffer: bytes, now: float, rules: Rules) -> None:
    try:
        read(buffer, now, rules)
    except AdvertError as error:
        raise ValueError(f"nobody would take this advert: {error}") from error


# --- work: a speed bump against free identities, outside dev networks ---

WORK_BITS: Final = 20
"""leading zero bits: about 2^20 hashes, 0.4 s a day."""


def solve(public: bytes, day: int, bits: int = WORK_BITS) -> bytes:
    """A nonce that buys a listing for one day; it takes long, so call it in a thread."""
    number = 0
    while not is_work(public, day, nonce := number.to_bytes(8, "little"), bits):
        number += 1
    return nonce


def is_work(public: bytes, day: int, nonce: bytes, bits: int = WORK_BITS) -> bool:
    """Whether the hash of key, day and nonce begins with enough zero bits."""
    return _zero_bits(public, day, nonce) >= bits


def work_bits(advert: Advert) -> int:
    """How many zero bits the work of an advert has; 0 without any."""
    work = advert.fields.work
    return 0 if work is None else _zero_bits(advert.public, advert.issued // DAY, work)


def _zero_bits(public: bytes, day: int, nonce: bytes) -> int:
    digest = sha256(b"tussah/work" + public + day.to_bytes(4, "little") + nonce).digest()
    return 256 - int.from_bytes(digest, "big").bit_length()
