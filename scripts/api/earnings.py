"""The documents of what comes in and goes out: earnings, a way to deposit, a withdrawal."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ledger.earnings import DAY, By, Earned
from ledger.money import ZERO, Nano
from scripts.failure import Document


def earnings(
    by: By,
    groups: Sequence[Earned],
    *,
    due: Nano,
    lanes: int,
    name: Callable[[bytes], str | None],
) -> Document:
    """The `earnings` document; `name` is what people call a model, if anything."""
    return {
        "schema": "tussah/earnings/1",
        "by": by.value,
        "groups": [_group(group, name) for group in groups],
        "answers": sum(group.answers for group in groups),
        "tokens": sum(group.tokens for group in groups),
        "billed_nano": sum((group.billed for group in groups), ZERO).value,
        "earned_nano": sum((group.earned for group in groups), ZERO).value,
        "unsettled_nano": sum((group.unsettled for group in groups), ZERO).value,
        "due_nano": due.value,
        "lanes": lanes,
    }


def _group(group: Earned, name: Callable[[bytes], str | None]) -> Document:
    return {
        "day": None if group.day is None else day(group.day),
        "model_hash": group.model.hex() if group.model else None,
        "model": name(group.model) if group.model else None,
        "answers": group.answers,
        "tokens": group.tokens,
        "billed_nano": group.billed.value,
        "earned_nano": group.earned.value,
        "unsettled_nano": group.unsettled.value,
    }


def day(number: int) -> str:
    """`2026-11-29`, of UTC."""
    return datetime.fromtimestamp(number * DAY, UTC).date().isoformat()


def deposit(address: str, chain: str, amount: Nano | None, *, worthless: bool) -> Document:
    """The `deposit` document: where coins for this node go, as a link that wallets open."""
    link = f"ton://transfer/{address}"
    if amount is not None:
        link += f"?amount={amount.value}"
    return {
        "schema": "tussah/deposit/1",
        "chain": chain,
        "worthless": worthless,
        "address": address,
        "amount_nano": None if amount is None else amount.value,
        "link": link,
    }


def withdrawal(
    to: str, amount: Nano, *, state: str, fees: Nano | None, transaction: bytes | None
) -> Document:
    """The `withdrawal` document; `state` is sent (on its way), done or dead."""
    return {
        "schema": "tussah/withdrawal/1",
        "to": to,
        "amount_nano": amount.value,
        "state": state,
        "fees_nano": None if fees is None else fees.value,
        "transaction": None if transaction is None else transaction.hex(),
    }
