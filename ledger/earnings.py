"""What a worker has earned, by day or by model: sums over its sessions and the receipts it signed.

A session's figure is what its mint has paid, tick by tick; its receipt says for which model and how
many tokens. One that was cut short has ticks and no receipt, and belongs to no model.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ledger import tariff
from ledger.money import ZERO, Nano
from ledger.store import Connection, Row, Value, blob, integer, nano
from ledger.tariff import Receipt

DAY: Final = 86_400
"""seconds; days are UTC's"""

NO_MODEL: Final = b""
"""Of sessions without a receipt."""


class By(Enum):
    """How sessions are put together."""

    DAY = "day"
    MODEL = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """The sessions of one day, or of one model."""

    day: int | None
    """Days since 1970; by its receipt's end, else by its lock's."""
    model: bytes | None
    """Its identity; `NO_MODEL` for sessions without a receipt."""
    answers: int = 0
    """receipts"""
    tokens: int = 0
    """of answers, as the receipts say"""
    billed: Nano = ZERO
    """What the receipts ask for."""
    earned: Nano = ZERO
    """What mints have paid for them."""
    unsettled: Nano = ZERO
    """Shown to us in ticks, and not paid yet."""

    def plus(self, session: "Session") -> "Earned":
        """With one more session."""
        receipt = session.receipt
        return Earned(
            day=self.day,
            model=self.model,
            answers=self.answers + (receipt is not None),
            tokens=self.tokens + (0 if receipt is None else answer_tokens(receipt)),
            billed=self.billed + (ZERO if receipt is None else receipt.cost),
            earned=self.earned + session.earned,
            unsettled=self.unsettled + session.unsettled,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session that paid us, or was to."""

    earned: Nano
    unsettled: Nano
    expiry: int
    receipt: Receipt | None

    @property
    def day(self) -> int:
        """When it was."""
        return (self.expiry if self.receipt is None else self.receipt.ended) // DAY

    @property
    def model(self) -> bytes:
        """What answered."""
        return NO_MODEL if self.receipt is None else self.receipt.model


def answer_tokens(receipt: Receipt) -> int:
    """Tokens that were written, seen by the asker or not."""
    return receipt.tokens.completion + receipt.tokens.reasoning


def earnings(connection: Connection, by: By) -> list[Earned]:
    """All that was ever earned; days newest first, models by what they brought."""
    if by is By.DAY:
        groups = _grouped(sessions(connection), lambda session: (session.day, None))
        return sorted(groups, key=lambda group: -(group.day or 0))
    groups = _grouped(sessions(connection), lambda session: (None, session.model))
    return sorted(groups, key=lambda group: -group.earned.value)


def sessions(connection: Connection) -> Iterator[Session]:
    """Every session that a mint locked for us."""
    rows = connection.execute(
        "SELECT t.tick, t.i, t.settled, t.done, t.expiry, b.signed"
        " FROM taking t LEFT JOIN bill b USING (lock) ORDER BY t.expiry, t.lock"
    )
    return (_session(row) for row in rows)


def bills(connection: Connection, most: int) -> list[bytes]:
    """The newest receipts that this node has signed."""
    rows = connection.execute(
        "SELECT b.signed FROM bill b JOIN taking t USING (lock) ORDER BY t.expiry DESC LIMIT ?",
        (most,),
    )
    return [blob(signed) for (signed,) in rows]


def _session(row: Row) -> Session:
    tick, i, settled, done, expiry, signed = row
    left = 0 if integer(done) else integer(i) - integer(settled)
    return Session(
        earned=nano(tick) * integer(settled),
        unsettled=nano(tick) * max(0, left),
        expiry=integer(expiry),
        receipt=_read(signed),
    )


def _read(signed: Value) -> Receipt | None:
    return None if signed is None else tariff.read(blob(signed))


def _grouped(
    every: Iterable[Session], key: Callable[[Session], tuple[int | None, bytes | None]]
) -> list[Earned]:
    groups: dict[tuple[int | None, bytes | None], Earned] = {}
    for session in every:
        day, model = group = key(session)
        groups[group] = groups.get(group, Earned(day=day, model=model)).plus(session)
    return list(groups.values())
