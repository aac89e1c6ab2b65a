"""What asker and worker say to each other on a stream: canonical arrays, `[kind, ...]`, bounded.

The order, C the asker and W the worker:

    C  want                            in the circuit's request; later ones first on their stream
    W  offer | refusal                 in the circuit's reply; later ones on their stream
    C  pay, prompt                     together; END follows the prompt (no `pay` in free mode)
    W  pay                             the mint's word
    W  progress* chunk* receipt        or a refusal, and a receipt behind it if anything was charged
    C  tick*                           meanwhile, paying

On a stream each is `length u32 | message` (`codec.frame`); in a circuit's request and reply it
stands behind a zero byte. Text that people wrote travels as bytes of UTF-8, fractions as whole
thousandths. What breaks a rule here raises `CodecError`, whoever sent it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from hashlib import blake2b, sha256
from typing import Final, TypeAlias, TypeVar

from ledger.tariff import MAX_PRICE, Prices
from p2p import codec
from p2p.codec import Value
from p2p.errors import BadSignature, CodecError
from p2p.identity import SIGNATURE_SIZE, Identity
from p2p.identity import verify as verify_signature

VERSION: Final = 1
PLAIN: Final = b"\0"
"""Before a want or its answer in a circuit's request and reply: not a resumed conversation."""

MAX_UPLOAD: Final = 4 * 1024 * 1024
"""bytes of the longest message of an asker."""

MAX_ANSWER: Final = 64 * 1024
"""bytes of the longest message of a worker."""

MAX_MINTS: Final = 4
MAX_IDS: Final = 256
"""tokens in one chunk."""

MAX_TOP: Final = 20
"""alternatives per token in a chunk."""

MAX_SETTINGS: Final = 16
OFFER_VALID: Final = 20
"""seconds an offer stands: a prompt that follows at once has been sent by then."""


class Kind(IntEnum):
    """The first item of a message."""

    WANT = 0
    OFFER = 1
    PAY = 2
    PROMPT = 3
    TICK = 4
    CHUNK = 5
    PROGRESS = 6
    RECEIPT = 7
    REFUSAL = 8
    EVIDENCE = 9
    VECTORS = 10
    SCORED = 11


class Work(IntEnum):
    """What a want asks for."""

    CHAT = 0
    TEXT = 1
    EMBED = 2
    SCORE = 3


class Need(IntFlag):
    """What a request cannot do without; the low bits are the flags of an advert's model."""

    NONE = 0
    TOOLS = 1
    GRAMMAR = 2
    VISION = 4
    EMBEDDINGS = 8
    LOGPROBS = 16
    REPRODUCIBLE = 32
    EVIDENCE = 1 << 15
    """TEE evidence is wanted before the prompt."""


class Setting(IntEnum):
    """Keys of a prompt's settings."""

    MAX_TOKENS = 0
    """Left out: as many as the context leaves, and no more than the want says."""
    TEMPERATURE = 1
    TOP_P = 2
    TOP_K = 3
    MIN_P = 4
    FREQUENCY = 5
    PRESENCE = 6
    LOGPROBS = 7
    PARALLEL_TOOLS = 8
    REASONING_EFFORT = 9


SETTING_BOUNDS: Final[Mapping[int, tuple[int, int]]] = {
    Setting.MAX_TOKENS: (1, 2**31 - 1),
    Setting.TEMPERATURE: (0, 2_000),
    Setting.TOP_P: (0, 1_000),
    Setting.TOP_K: (0, 1_000),
    Setting.MIN_P: (0, 1_000),
    Setting.FREQUENCY: (-2_000, 2_000),
    Setting.PRESENCE: (-2_000, 2_000),
    Setting.LOGPROBS: (0, 20),
    Setting.PARALLEL_TOOLS: (0, 1),
    Setting.REASONING_EFFORT: (0, 3),
}
"""Least and most of each; 1, 2, 4, 5 and 6 in thousandths."""


class Refuse(IntEnum):
    """Why a worker says no; what `detail` means stands behind."""

    BUSY = 1
    PAUSED = 2
    """seconds until it may serve again, 0 if unknown"""
    NO_MODEL = 3
    UNSUPPORTED = 4
    """the needs it lacks"""
    TOO_LONG = 5
    """the largest possible number of tokens"""
    BAD_REQUEST = 6
    """number of the field"""
    BAD_GRAMMAR = 7
    BAD_TEMPLATE = 8
    PAYMENT = 9
    """the mint's word"""
    UNPAID = 10
    """tokens sent"""
    DEADLINE = 11
    """tokens sent"""
    ENGINE = 12
    """`inference.engine.base.Fault`"""
    TOO_MANY = 13


class Abort(IntEnum):
    """Why a stream is reset: the code in the RESET."""

    CANCELLED = 0
    PROTOCOL = 1
    """what the other side sent breaks a rule"""
    SILENT = 2
    """the other side sent or took nothing for too long"""
    OVERLOAD = 3
    """a bound is reached"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What an asker looks for, before the worker learns anything of the prompt."""

    work: Work
    identity: bytes
    nonce: bytes
    """16 fresh bytes, so that no two wants are equal."""
    needs: Need = Need.NONE
    size_class: int
    """ceil(log2) of the prompt's tokens, guessed: see `size_class`."""
    max_tokens: int
    mints: tuple[bytes, ...] = ()
    rate: int = 0
    """cells/s at which the worker is to pace its answer; 0 unpaced"""

    def encode(self) -> bytes:
        """The message."""
        return codec.pack(
            [
                Kind.WANT,
                VERSION,
                self.work,
                self.identity,
                self.nonce,
                int(self.needs),
                self.size_class,
                self.max_tokens,
                self.mints,
                self.rate,
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A worker's terms; signed, because the asker pays and complains by them."""

    want: bytes
    """SHA-256 of the want as received."""
    identity: bytes
    numerics: bytes
    prices: Prices
    tick_tokens: int = 0
    """k: tokens that one tick pays; 0 in free mode."""
    step_ticks: int = 0
    """g: ticks in one step of reading the prompt; 0 in free mode."""
    tick: int = 0
    """nano of one tick"""
    mints: tuple[bytes, ...] = ()
    ahead: int
    wait_s: int
    context: int
    prompt_rate: int
    answer_rate: int
    """tokens/s expected at the present load and one more"""
    assurance: int = 0
    evidence: bytes | None = None
    """SHA-256 of the evidence to come."""
    valid_s: int = OFFER_VALID
    nonce: bytes

    def sign(self, worker: Identity) -> bytes:
        """The message with its signature behind; SHA-256 of that is the session of payments."""
        body = codec.pack(
            [
                Kind.OFFER,
                VERSION,
                self.want,
                self.identity,
                self.numerics,
                self.prices,
                self.tick_tokens,
                self.step_ticks,
                self.tick,
                self.mints,
                self.ahead,
                self.wait_s,
                self.context,
                self.prompt_rate,
                self.answer_rate,
                self.assurance,
                self.evidence,
                self.valid_s,
                self.nonce,
            ]
        )
        return body + worker.sign(_OFFER_DOMAIN + body)


@dataclass(frozen=True, slots=True)
class Pay:
    """A `spend`, or the mint's answer to it; the ledger reads it."""

    body: bytes

    def encode(self) -> bytes:
        """The message."""
        return codec.pack([Kind.PAY, self.body])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The question itself; leaves only after an acceptable offer."""

    nonce: bytes
    """16 bytes that seed the sampling: the worker cannot have chosen them."""
    date: int | None
    """Days since 1970, for templates that show the date."""
    deadline_ms: int
    settings: Mapping[int, int]
    body: bytes
    """JSON: `inference/body.py`."""

    def encode(self) -> bytes:
        """The message."""
        return codec.pack(
            [Kind.PROMPT, self.nonce, self.date, self.deadline_ms, self.settings, self.body]
        )


@dataclass(frozen=True, slots=True)
class Tick:
    """A payment: one hash of a chain, which reveals the earlier ones."""

    index: int
    preimage: bytes

    def encode(self) -> bytes:
        """The message."""
        return codec.pack([Kind.TICK, self.index, self.preimage])


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The next tokens, and the text that became certain with them; fits one cell."""

    first: int
    """Number of tokens sent before: a gap or overlap ends the stream."""
    ids: tuple[int, ...]
    text: str
    channel: int = 0
    logprobs: tuple[int, ...] | None = None
    """per token round(-1000 ln p), at most 65,535"""
    top: tuple[tuple[tuple[int, int], ...], ...] | None = None
    """per token the same number of (token, as above), best first"""
    texts: tuple[tuple[bytes, ...], ...] | None = None
    """per token its own bytes and those of each in `top`, cut where they are long; only with it"""

    def encode(self) -> bytes:
        """The message."""
        return codec.pack(
            [
                Kind.CHUNK,
                self.first,
                b"".join(_u24(id_) for id_ in self.ids),
                self.text.encode(),
                self.channel,
                None if self.logprobs is None else _pack_logprobs(self.logprobs),
                None if self.top is None else _pack_top(self.top),
                None if self.texts is None else _pack_texts(self.texts),
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of the prompt has been read; at least every 5 s while it is."""

    prompt: int
    cached: int
    done: int

    def encode(self) -> bytes:
        """The message."""
        return codec.pack([Kind.PROGRESS, self.prompt, self.cached, self.done])


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """The end of an answer: the receipt of `ledger/tariff.py`, signed."""

    receipt: bytes
    numerics: bytes

    def encode(self) -> bytes:
        """The message."""
        return codec.pack([Kind.RECEIPT, self.receipt, self.numerics])


@dataclass(frozen=True, slots=True)
class Refusal:
    """No, or no more."""

    code: Refuse
    detail: int = 0

    def encode(self) -> bytes:
        """The message."""
        return codec.pack([Kind.REFUSAL, self.code, self.detail])


@dataclass(frozen=True, slots=True)
class Evidence:
    """What proves a TEE, before the prompt."""

    body: bytes

    def encode(self) -> bytes:
        """The message."""
        return codec.pack([Kind.EVIDENCE, self.body])


@dataclass(frozen=True, slots=True)
class Vectors:
    """Rows of little-endian float32, from number `first` on."""

    first: int
    rows: bytes

    def encode(self) -> bytes:
        """The message."""
        return codec.pack([Kind.VECTORS, self.first, self.rows])


@dataclass(frozen=True, slots=True)
class Scored:
    """Margins of claimed tokens as u16, from token `first` on."""

    first: int
    margins: bytes

    def encode(self) -> bytes:
        """The message."""
        return codec.pack([Kind.SCORED, self.first, self.margins])


FromAsker: TypeAlias = Want | Pay | Prompt | Tick
FromWorker: TypeAlias = Pay | Chunk | Progress | Billed | Refusal | Evidence | Vectors | Scored


def size_class(body: bytes) -> int:
    """ceil(log2) of the prompt's tokens, guessed as a third of its bytes."""
    return max(0, math.ceil(len(body) / 3) - 1).bit_length()


def nonce_of_seed(seed: int) -> bytes:
    """The nonce that stands for OpenAI's `seed`, an i64."""
    number = seed.to_bytes(8, "little", signed=True)
    return blake2b(number, digest_size=16, person=b"tussah.nonce").digest()


def logprob(natural: float) -> int:
    """A natural logarithm of a probability as it travels."""
    return round(min(float(_U16), max(0.0, -1_000 * natural)))


def session_of(offer: bytes) -> bytes:
    """What spends and receipts are bound to: SHA-256 of the signed offer as received."""
    return sha256(offer).digest()


# --- reading: one function for each side, and one each for what a circuit's ends carry ---


def read_asker(message: bytes) -> FromAsker:
    """A message of an asker's. Raises `CodecError`."""
    return _read(message, _ASKER)


def read_worker(message: bytes) -> FromWorker:
    """A message of a worker's, offers apart. Raises `CodecError`."""
    return _read(message, _WORKER)


def read_request(request: bytes) -> Want:
    """The want in a circuit's request. Raises `CodecError`."""
    want = read_asker(_plain(request))
    if not isinstance(want, Want):
        raise CodecError("a request begins with a want")
    return want


def read_offer(message: bytes, public: bytes, want: bytes) -> Offer:
    """The offer that the worker with this key made for this want, as `Offer.sign` built it.

    Raises `CodecError`, or `BadSignature` if it is another's, or for another want.
    """
    body, signature = message[:-SIGNATURE_SIZE], message[-SIGNATURE_SIZE:]
    offer = _offer(_array(body, _LIMITS[Kind.OFFER] - SIGNATURE_SIZE, Kind.OFFER))
    if not verify_signature(public, _OFFER_DOMAIN + body, signature):
        raise BadSignature("the offer's signature is not the worker's")
    if offer.want != sha256(want).digest():
        raise BadSignature("the offer answers another want")
    return offer


def read_reply(reply: bytes) -> bytes:
    """The message behind the zero byte of a circuit's reply. Raises `CodecError`."""
    return _plain(reply)


def kind_of(message: bytes) -> Kind:
    """The kind that a message claims, nothing else being read. Raises `CodecError`."""
    if len(message) < 2 or (message[0] & 0xF0 != 0x90 and message[0] != 0xDC):
        raise CodecError("not an array")
    at = 1 if message[0] != 0xDC else 3
    number = message[at] if at < len(message) else len(Kind)
    if number >= len(Kind):
        raise CodecError("unknown kind of message")
    return Kind(number)


_OFFER_DOMAIN: Final = b"tussah/offer/1\0"
_U8, _U16, _U32, _U63 = ((1 << bits) - 1 for bits in (8, 16, 32, 63))
_MAX_CHANNEL: Final = 2

_LIMITS: Final[Mapping[Kind, int]] = {
    Kind.WANT: 512 - len(PLAIN),
    Kind.OFFER: 960 - len(PLAIN),
    Kind.PAY: 8_197,
    Kind.PROMPT: MAX_UPLOAD,
    Kind.TICK: 39,
    Kind.CHUNK: 1_112,
    Kind.PROGRESS: 32,
    Kind.RECEIPT: 700,
    Kind.REFUSAL: 16,
    Kind.EVIDENCE: MAX_ANSWER,
    Kind.VECTORS: MAX_ANSWER,
    Kind.SCORED: MAX_ANSWER,
}
"""bytes of the longest message of each kind."""

_Items: TypeAlias = Sequence[Value]
T = TypeVar("T")


def _read(message: bytes, readers: "Mapping[Kind, Callable[[_Items], T]]") -> T:
    kind = kind_of(message)
    reader = readers.get(kind)
    if reader is None:
        raise CodecError(f"{kind.name} is not for this side to say")
    return reader(_array(message, _LIMITS[kind], kind))


def _array(message: bytes, limit: int, kind: Kind) -> _Items:
    items = codec.unpack(message, limit)
    if not isinstance(items, tuple) or not items or items[0] != kind:
        raise CodecError("not an array of this kind")
    if len(items) != _LENGTHS[kind]:
        raise CodecError(f"{kind.name} has {_LENGTHS[kind]} items")
    return items


_LENGTHS: Final[Mapping[Kind, int]] = {
    Kind.WANT: 10,
    Kind.OFFER: 19,
    Kind.PAY: 2,
    Kind.PROMPT: 6,
    Kind.TICK: 3,
    Kind.CHUNK: 8,
    Kind.PROGRESS: 4,
    Kind.RECEIPT: 3,
    Kind.REFUSAL: 3,
    Kind.EVIDENCE: 2,
    Kind.VECTORS: 3,
    Kind.SCORED: 3,
}
"""items of the array of each kind."""


def _want(items: _Items) -> Want:
    _version(items[1])
    return Want(
        work=Work(_integer(items[2], max(Work))),
        identity=_bytes(items[3], 32),
        nonce=_bytes(items[4], 16),
        needs=Need(_integer(items[5], _U16)),
        size_class=_integer(items[6], 31),
        max_tokens=_integer(items[7], 2**31 - 1),
        mints=_mints(items[8]),
        rate=_integer(items[9], _U8),
    )


def _offer(items: _Items) -> Offer:
    _version(items[1])
    return Offer(
        want=_bytes(items[2], 32),
        identity=_bytes(items[3], 32),
        numerics=_bytes(items[4], 8),
        prices=_prices(items[5]),
        tick_tokens=_integer(items[6], _U16),
        step_ticks=_integer(items[7], _U16),
        tick=_integer(items[8], _U63),
        mints=_mints(items[9]),
        ahead=_integer(items[10], _U8),
        wait_s=_integer(items[11], _U16),
        context=_integer(items[12], _U32),
        prompt_rate=_integer(items[13], _U16),
        answer_rate=_integer(items[14], _U16),
        assurance=_integer(items[15], _U8),
        evidence=None if items[16] is None else _bytes(items[16], 32),
        valid_s=_integer(items[17], _U16),
        nonce=_bytes(items[18], 16),
    )


def _pay(items: _Items) -> Pay:
    return Pay(_binary(items[1]))


def _prompt(items: _Items) -> Prompt:
    return Prompt(
        nonce=_bytes(items[1], 16),
        date=None if items[2] is None else _integer(items[2], _U16),
        deadline_ms=_integer(items[3], _U32),
        settings=_settings(items[4]),
        body=_binary(items[5]),
    )


def _tick(items: _Items) -> Tick:
    return Tick(_integer(items[1], _U16), _bytes(items[2], 32))


def _chunk(items: _Items) -> Chunk:
    packed = _binary(items[2])
    count, rest = divmod(len(packed), 3)
    if rest or count > MAX_IDS:
        raise CodecError("tokens of a chunk are 0 to 256 of three bytes")
    top = None if items[6] is None else _top(_binary(items[6]), count)
    width = len(top[0]) if top else 0
    return Chunk(
        first=_integer(items[1], _U32 - count),
        ids=tuple(_numbers(packed, 3)),
        text=_text(items[3]),
        channel=_integer(items[4], _MAX_CHANNEL),
        logprobs=None if items[5] is None else _logprobs(_binary(items[5]), count),
        top=top,
        texts=None if items[7] is None else _texts(_binary(items[7]), count, 1 + width),
    )


def _progress(items: _Items) -> Progress:
    prompt, cached, done = (_integer(item, _U32) for item in items[1:])
    if done > prompt + cached:
        raise CodecError("more of the prompt was read than there is")
    return Progress(prompt=prompt, cached=cached, done=done)


def _billed(items: _Items) -> Billed:
    return Billed(receipt=_binary(items[1]), numerics=_bytes(items[2], 8))


def _refusal(items: _Items) -> Refusal:
    code = _integer(items[1], max(Refuse))
    if code < min(Refuse):
        raise CodecError("unknown refusal")
    return Refusal(Refuse(code), _integer(items[2], _U32))


def _evidence(items: _Items) -> Evidence:
    return Evidence(_binary(items[1]))


def _vectors(items: _Items) -> Vectors:
    return Vectors(_integer(items[1], _U32), _multiple(items[2], 4))


def _scored(items: _Items) -> Scored:
    return Scored(_integer(items[1], _U32), _multiple(items[2], 2))


_ASKER: Final[Mapping[Kind, Callable[[_Items], FromAsker]]] = {
    Kind.WANT: _want,
    Kind.PAY: _pay,
    Kind.PROMPT: _prompt,
    Kind.TICK: _tick,
}
_WORKER: Final[Mapping[Kind, Callable[[_Items], FromWorker]]] = {
    Kind.PAY: _pay,
    Kind.CHUNK: _chunk,
    Kind.PROGRESS: _progress,
    Kind.RECEIPT: _billed,
    Kind.REFUSAL: _refusal,
    Kind.EVIDENCE: _evidence,
    Kind.VECTORS: _vectors,
    Kind.SCORED: _scored,
}


# --- single fields ---


def _plain(data: bytes) -> bytes:
    if not data.startswith(PLAIN):
        raise CodecError("only fresh requests are understood")
    return data.removeprefix(PLAIN)


def _version(value: Value) -> None:
    if _integer(value, _U8) != VERSION:
        raise CodecError("another version")


def _integer(value: Value, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise CodecError("a number out of range")
    return value


def _binary(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise CodecError("not bytes")
    return value


def _bytes(value: Value, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise CodecError(f"not {size} bytes")
    return value


def _multiple(value: Value, size: int) -> bytes:
    packed = _binary(value)
    if len(packed) % size:
        raise CodecError(f"not items of {size} bytes")
    return packed


def _text(value: Value) -> str:
    try:
        return _binary(value).decode()
    except UnicodeDecodeError as error:
        raise CodecError("text is not UTF-8") from error


def _mints(value: Value) -> tuple[bytes, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_MINTS:
        raise CodecError("too many mints, or none as a list")
    return tuple(_bytes(item, 32) for item in value)


def _prices(value: Value) -> Prices:
    if not isinstance(value, tuple) or len(value) != len(Prices()):
        raise CodecError("prices are four numbers")
    return Prices(*(_integer(item, MAX_PRICE) for item in value))


def _settings(value: Value) -> Mapping[int, int]:
    if not isinstance(value, Mapping) or len(value) > MAX_SETTINGS:
        raise CodecError("settings are a short map")
    settings: dict[int, int] = {}
    for key, item in value.items():
        if type(key) is not int or type(item) is not int:
            raise CodecError("settings are numbers")
        settings[key] = item
    return settings


def _logprobs(packed: bytes, count: int) -> tuple[int, ...]:
    if len(packed) != 2 * count:
        raise CodecError("one logprob a token")
    return tuple(_numbers(packed, 2))


def _top(packed: bytes, count: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    width, rest = divmod(len(packed), 5 * count) if count else (0, len(packed))
    if rest or width > MAX_TOP:
        raise CodecError("alternatives are as many for each token, at most 20")
    pairs = [
        (_number(packed[at : at + 3]), _number(packed[at + 3 : at + 5]))
        for at in range(0, len(packed), 5)
    ]
    return tuple(tuple(pairs[row * width : (row + 1) * width]) for row in range(count))


def _texts(packed: bytes, count: int, width: int) -> tuple[tuple[bytes, ...], ...]:
    """`count` rows of `width` texts, each behind its length in a byte."""
    texts, at = [], 0
    for _ in range(count * width):
        size = packed[at] if at < len(packed) else 0
        texts.append(packed[at + 1 : at + 1 + size])
        at += 1 + size
    if at != len(packed):
        raise CodecError("texts are as many as tokens and alternatives")
    return tuple(tuple(texts[row * width : (row + 1) * width]) for row in range(count))


def _numbers(packed: bytes, size: int) -> list[int]:
    return [_number(packed[at : at + size]) for at in range(0, len(packed), size)]


def _number(packed: bytes) -> int:
    return int.from_bytes(packed, "little")


def _u24(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _pack_logprobs(logprobs: Sequence[int]) -> bytes:
    return b"".join(value.to_bytes(2, "little") for value in logprobs)


def _pack_top(top: Sequence[Sequence[tuple[int, int]]]) -> bytes:
    return b"".join(_u24(id_) + value.to_bytes(2, "little") for row in top for id_, value in row)


def _pack_texts(texts: Sequence[Sequence[bytes]]) -> bytes:
    return b"".join(bytes([len(text)]) + text for row in texts for text in row)
