"""An answer as it comes in: every message held against the offer, the prompt and what came before.

What does not fit raises `RemoteError`, whose text says how; the asker then knows that the worker
lies or is broken, and does not ask it again.
"""

import json
from hashlib import sha256
from typing import Final, final

from inference import strict
from inference.engine.base import Call, Tokens
from inference.meter import pace_of
from inference.protocol import Billed, Chunk, Offer, Progress, session_of
from ledger import tariff
from ledger.tariff import Count, Receipt, Stop
from p2p.errors import RemoteError

MAX_TEXT: Final = 4 * 1024 * 1024
"""bytes of an answer: as much as a resumed circuit could bring again."""

TOKENS_PER_MESSAGE: Final = 64
"""tokens that a chat template may add for each message, its own system prompt included."""

CONTENT, REASONING, TOOL_CALL = 0, 1, 2
"""channels of a chunk"""


@final
class Reading:
    """One answer. `cap` is how many tokens it may have; `exact` whether the asker said so."""

    def __init__(
        self, offer: Offer, signed: bytes, body: bytes, *, messages: int, cap: int, exact: bool
    ) -> None:
        self._offer = offer
        self._pace = pace_of(offer)
        self._session = session_of(signed)
        self._body = body
        self._most_read = len(body) + TOKENS_PER_MESSAGE * messages
        self._cap = cap
        self._exact = exact

        self._hash = sha256(self._session)
        self._size = 0
        self._ids: list[int] = []
        self._reasoned = 0
        self._texts: tuple[list[str], ...] = ([], [], [])
        self._read: tuple[int, int] | None = None
        self.calls: tuple[Call, ...] = ()
        """the tools that are called, once the receipt is there"""

    @property
    def ids(self) -> Tokens:
        """The tokens so far."""
        return tuple(self._ids)

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self._size > 0 or bool(self._ids)

    @property
    def full(self) -> bool:
        """Whether no more tokens may come."""
        return len(self._ids) >= self._cap

    @property
    def count(self) -> Count:
        """Tokens so far, the whole prompt's among them."""
        prompt, cached = self._read or (0, 0)
        return Count(prompt, cached, len(self._ids) - self._reasoned, self._reasoned)

    @property
    def content(self) -> str:
        """The text so far."""
        return "".join(self._texts[CONTENT])

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return "".join(self._texts[REASONING])

    def progress(self, progress: Progress) -> None:
        """Take a count of the prompt: it may not change, nor exceed what was sent."""
        read = progress.prompt, progress.cached
        if self._read not in (None, read):
            raise RemoteError("the prompt's tokens are counted anew")
        if sum(read) > self._most_read:
            raise RemoteError("more tokens of the prompt than it has bytes")
        self._read = read

    def chunk(self, chunk: Chunk) -> None:
        """Take the next piece of the answer."""
        if chunk.first != len(self._ids):
            raise RemoteError("a gap or an overlap in the answer")
        if len(self._ids) + len(chunk.ids) > self._cap:
            raise RemoteError("more tokens than were asked for")
        if self._read is None and not self._offer.prices.free:
            raise RemoteError("an answer before the prompt was counted")
        text = chunk.text.encode()
        if not chunk.ids and not text:
            raise RemoteError("an empty piece of the answer")
        if self._size + len(text) > MAX_TEXT:
            raise RemoteError("more text than an answer may have")
        self._ids += chunk.ids
        self._reasoned += len(chunk.ids) if chunk.channel == REASONING else 0
        self._size += len(text)
        self._hash.update(text)
        self._texts[chunk.channel].append(chunk.text)

    def receipt(self, billed: Billed, public: bytes) -> Receipt:
        """The receipt, if it is the worker's and says what happened; calls are read with it.

        Raises `RemoteError`: `CodecError` and `BadSignature` are among them.
        """
        receipt = tariff.verify(billed.receipt, public)
        lie = self._lie(receipt)
        lines = "".join(self._texts[TOOL_CALL]).split("\n")
        self.calls = tuple(_call(line, at) for at, line in enumerate(lines) if line)
        if billed.numerics != self._offer.numerics:
            lie = "another numerics class than the offer"
        if lie is not None:
            raise RemoteError(f"the receipt has {lie}")
        return receipt

    def _lie(self, receipt: Receipt) -> str | None:
        if receipt.offer != self._session or receipt.model != self._offer.identity:
            return "another offer or model"
        if receipt.prompt_hash != tariff.hash_prompt(self._session, self._body):
            return "another prompt"
        if receipt.answer_hash != self._hash.digest():
            return "another answer"
        if receipt.tokens.written != len(self._ids):
            return "another number of tokens"
        return self._lie_of_count(receipt)

    def _lie_of_count(self, receipt: Receipt) -> str | None:
        tokens = receipt.tokens
        if tokens.read > self._most_read:
            return "more tokens of the prompt than it has bytes"
        if self._read not in (None, (tokens.prompt, tokens.cached)):
            return "another count of the prompt than was told"
        if receipt.cost != tariff.cost(tokens, self._offer.prices):
            return "another cost than was offered"
        if receipt.ticks != (0 if self._offer.prices.free else self._pace.total(tokens)):
            return "another number of ticks than it costs"
        if self._pace.spent(tokens) > self._pace.spent(self.count) + self._pace.tick:
            return "dearer tokens than were sent"
        if receipt.stop in (Stop.CANCELLED, Stop.UNPAID):
            return "an end that nobody asked for"
        if receipt.stop == Stop.LENGTH and self._exact and not self.full:
            return "a length that was not reached"
        return None


def _call(line: str, number: int) -> Call:
    try:
        value = strict.parse(line)
    except ValueError as error:
        raise RemoteError("a call of a tool that is no JSON") from error
    name = value.get("name") if isinstance(value, dict) else None
    arguments = value.get("arguments") if isinstance(value, dict) else None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise RemoteError("a call of a tool without name or arguments")
    return Call(
        id=f"call_{number}_{sha256(line.encode()).hexdigest()[:16]}",
        name=name,
        arguments=json.dumps(arguments, ensure_ascii=False),
    )
