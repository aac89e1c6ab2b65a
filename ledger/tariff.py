"""Prices, what an answer costs, how it is paid in ticks, and the receipt a worker signs for it.

Tokens fall into four disjoint classes, each with one whole price in nano per million tokens. Costs
are rounded up once, over the sum of the classes, so that both sides find the same number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from math import ceil
from typing import Final, NamedTuple

from ledger.money import ZERO, Nano
from ledger.tick import MAX_TICKS
from p2p import codec
from p2p.codec import Value
from p2p.errors import BadSignature, CodecError
from p2p.identity import SIGNATURE_SIZE, AdnlId, Identity, short_id
from p2p.identity import verify as verify_signature

MAX_PRICE: Final = 10**15
"""nano per million tokens: a TON per token is a mistake, not a price."""

MAX_RECEIPT: Final = 400
"""bytes of a signed receipt; the longest there can be takes 362."""

MAX_TOKENS: Final = 2**31 - 1
"""tokens of one class in one answer: at `MAX_PRICE` four of them still are an amount."""

_MILLION: Final = 1_000_000
_DOMAIN: Final = b"tussah/receipt/1\0"


class Prices(NamedTuple):
    """nano per million tokens of each class."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0

    @property
    def free(self) -> bool:
        """Whether nothing costs anything: the mode without payments."""
        return not any(self)


class Count(NamedTuple):
    """Tokens of one answer, in the classes and the order of `Prices`."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0

    @property
    def read(self) -> int:
        """Tokens of the prompt, reused ones included: OpenAI's `prompt_tokens`."""
        return self.prompt + self.cached

    @property
    def written(self) -> int:
        """Tokens of the answer: OpenAI's `completion_tokens`."""
        return self.completion + self.reasoning


def fair(prices: Prices) -> bool:
    """Whether prices are in range, and what is reused costs no more than what is computed."""
    return all(0 <= price <= MAX_PRICE for price in prices) and prices.cached <= prices.prompt


def cost(count: Count, prices: Prices) -> Nano:
    """What so many tokens cost, rounded up to a nano."""
    millionths = sum(n * price for n, price in zip(count, prices, strict=True))
    return Nano(-(-millionths // _MILLION))


def quote(prompt: int, max_tokens: int, prices: Prices) -> Nano:
    """The most that a request can cost: nothing cached, all of the answer of the dearer class."""
    count = Count(prompt=prompt, completion=max_tokens)
    return cost(count, prices._replace(completion=_dearer(prices)))


# --- ticks ---

LEAST_TICK, MOST_TICK = 16, 256
"""tokens of one tick: fewer cost more hashing and cells than they protect; more are too much to
trust a stranger with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a request is paid in pieces: all of them zero if nothing costs anything."""

    k: int
    """tokens of the answer that one tick pays"""
    tick: Nano
    p0: int
    """ticks for the prompt, were none of it cached"""
    g: int
    """ticks in one step of reading the prompt"""
    ticks: int
    """the most that the request can take"""

    @property
    def amount(self) -> Nano:
        """What must be locked for it."""
        return self.tick * self.ticks


FREE: Final = Plan(k=0, tick=ZERO, p0=0, g=0, ticks=0)


def plan(
    prices: Prices,
    prompt_tokens: int,
    max_tokens: int,
    *,
    answer_rate: float,
    prompt_rate: float,
    wait: float,
) -> Plan:
    """The smallest ticks that do not stall a stream of these rates.

    Rates are tokens/s, `wait` the seconds from a token's leaving to its payment's coming: a tick
    lasts half as long again. Neither side is ever out by more than a tick, or by a step while the
    prompt is read. Raises `ValueError` for more tokens than `MAX_TICKS` can pay.
    """
    if prices.free:
        return FREE
    k = min(max(LEAST_TICK, _tokens_within(wait, answer_rate)), MOST_TICK)
    tick = _tick_of(k, prompt_tokens, prices)
    step = Count(prompt=_tokens_within(wait, prompt_rate))
    p0 = prompt_ticks(Count(prompt=prompt_tokens), prices, tick)
    g = max(1, prompt_ticks(step, prices, tick))
    ticks = total_ticks(prices, prompt_tokens, max_tokens, k=k, tick=tick)
    if ticks > MAX_TICKS:
        raise ValueError(f"{ticks} ticks are more than a session's")
    return Plan(k=k, tick=tick, p0=p0, g=g, ticks=ticks)


def prompt_ticks(count: Count, prices: Prices, tick: Nano) -> int:
    """p0: the ticks that pay for reading a prompt, whatever of it was cached."""
    price = cost(Count(prompt=count.prompt, cached=count.cached), prices)
    return -(-price.value // tick.value)


def total_ticks(prices: Prices, prompt_tokens: int, max_tokens: int, *, k: int, tick: Nano) -> int:
    """The most ticks that a request takes by the k and the tick of an offer."""
    written = -(-max_tokens // k) if _dearer(prices) else 0
    return prompt_ticks(Count(prompt=prompt_tokens), prices, tick) + written


def _tokens_within(wait: float, rate: float) -> int:
    """Tokens in one and a half waits, rounded up."""
    return -(-ceil(3 * wait * rate) // 2)


def _tick_of(k: int, prompt_tokens: int, prices: Prices) -> Nano:
    """k tokens of the dearer class; more where a dear prompt would take too many ticks."""
    written = cost(Count(completion=k), prices._replace(completion=_dearer(prices)))
    prompt = cost(Count(prompt=prompt_tokens), prices)
    return max(Nano(1), written, prompt.ceil_div(_MOST_PROMPT_TICKS))


def _dearer(prices: Prices) -> int:
    return max(prices.completion, prices.reasoning)


_MOST_PROMPT_TICKS: Final = MAX_TICKS // 2
"""The other half pays for 131,072 tokens of answer at `LEAST_TICK`."""


# --- receipts ---


class Stop(IntEnum):
    """Why an answer ended, as a receipt says it."""

    STOP = 0
    LENGTH = 1
    TOOL_CALLS = 2
    CANCELLED = 3
    DEADLINE = 4
    UNPAID = 5
    PAUSED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a worker says that it did under one offer, bound to prompt and answer by hashes."""

    offer: bytes
    """32 bytes: the session, SHA-256 of the offer as received."""
    model: bytes
    """32 bytes: the model's identity."""
    prompt_hash: bytes
    answer_hash: bytes
    tokens: Count
    cost: Nano
    ticks: int
    """payments taken; 0 in free mode"""
    stop: Stop
    started: int
    """Unix time, seconds"""
    ended: int
    worker: AdnlId

    def body(self) -> bytes:
        """The canonical map that is signed."""
        return codec.pack(
            {
                "v": _VERSION,
                "offer": self.offer,
                "model": self.model,
                "prompt_hash": self.prompt_hash,
                "answer_hash": self.answer_hash,
                "tokens": list(self.tokens),
                "cost": self.cost.value,
                "ticks": self.ticks,
                "stop": int(self.stop),
                "started": self.started,
                "ended": self.ended,
                "worker": self.worker,
            }
        )


def sign(receipt: Receipt, worker: Identity) -> bytes:
    """The receipt as it travels and is kept: `body | signature`."""
    body = receipt.body()
    return body + worker.sign(_DOMAIN + body)


def verify(signed: bytes, public: bytes) -> Receipt:
    """The receipt of the worker with this key. Raises `BadSignature`, or `CodecError`."""
    receipt = read(signed)
    body, signature = signed[:-SIGNATURE_SIZE], signed[-SIGNATURE_SIZE:]
    if receipt.worker != short_id(public):
        raise BadSignature("the receipt names another worker")
    if not verify_signature(public, _DOMAIN + body, signature):
        raise BadSignature("the receipt's signature is not the worker's")
    return receipt


def read(signed: bytes) -> Receipt:
    """What a receipt says, its signature not looked at. Raises `CodecError`."""
    if not SIGNATURE_SIZE < len(signed) <= MAX_RECEIPT:
        raise CodecError("a receipt of a wrong length")
    fields = codec.unpack(signed[:-SIGNATURE_SIZE], MAX_RECEIPT)
    if not isinstance(fields, Mapping):
        raise CodecError("a receipt is a map")
    return _receipt({key: value for key, value in fields.items() if isinstance(key, str)})


def hash_prompt(session: bytes, body: bytes) -> bytes:
    """What a receipt says of the prompt; with the session, so that equal prompts do not show."""
    return sha256(session + body).digest()


def hash_answer(session: bytes, text: bytes) -> bytes:
    """What a receipt says of the answer: all text of the chunks in the order they came."""
    return sha256(session + text).digest()


_VERSION: Final = 1
_KEYS: Final = (
    *("v", "offer", "model", "prompt_hash", "answer_hash", "tokens"),
    *("cost", "ticks", "stop", "started", "ended", "worker"),
)
_U16: Final = 2**16 - 1
_U32: Final = 2**32 - 1


def _receipt(fields: Mapping[str, Value]) -> Receipt:
    if len(fields) != len(_KEYS) or not all(key in _KEYS for key in fields):
        raise CodecError("a receipt with other fields")
    if _integer(fields["v"], _U32) != _VERSION:
        raise CodecError("a receipt of another version")
    return Receipt(
        offer=_hash(fields["offer"]),
        model=_hash(fields["model"]),
        prompt_hash=_hash(fields["prompt_hash"]),
        answer_hash=_hash(fields["answer_hash"]),
        tokens=_count(fields["tokens"]),
        cost=Nano(_integer(fields["cost"], 2**63 - 1)),
        ticks=_integer(fields["ticks"], _U16),
        stop=Stop(_integer(fields["stop"], max(Stop))),
        started=_integer(fields["started"], _U32),
        ended=_integer(fields["ended"], _U32),
        worker=AdnlId(_hash(fields["worker"])),
    )


def _count(value: Value) -> Count:
    if not isinstance(value, tuple) or len(value) != len(Count()):
        raise CodecError("tokens in a receipt are four numbers")
    return Count(*(_integer(item, MAX_TOKENS) for item in value))


def _hash(value: Value) -> bytes:
    if not isinstance(value, bytes) or len(value) != 32:
        raise CodecError("a hash in a receipt is 32 bytes")
    return value


def _integer(value: Value, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise CodecError("a number in a receipt is out of range")
    return value
