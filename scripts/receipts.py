"""Receipts as JSON lines, and their check, which needs no node and no network.

A line holds the receipt as its worker signed it, the worker's key, and the same in plain words.
All must agree: the key with the worker's id, the signature with the key, the words with the bytes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from ledger import tariff
from ledger.money import ZERO
from ledger.tariff import Receipt
from p2p.errors import RemoteError
from scripts.failure import Document

SCHEMA: Final = "tussah/receipt/1"

MAX_LINE: Final = 16_384
"""characters of one receipt; the longest has a tenth of them."""


def document(receipts: Sequence[tuple[bytes, bytes]]) -> Document:
    """The `receipts` document: signed receipts with their workers' keys."""
    total = sum((tariff.read(signed).cost for signed, _ in receipts), ZERO)
    return {
        "schema": "tussah/receipts/1",
        "receipts": [line(signed, public) for signed, public in receipts],
        "cost_nano": total.value,
    }


def line(signed: bytes, public: bytes) -> Document:
    """One receipt as a document."""
    return {
        "schema": SCHEMA,
        **words(tariff.read(signed)),
        "signed": signed.hex(),
        "public": public.hex(),
    }


def words(receipt: Receipt) -> dict[str, object]:
    """What a receipt says."""
    return {
        "v": 1,
        "offer": receipt.offer.hex(),
        "model": receipt.model.hex(),
        "prompt_hash": receipt.prompt_hash.hex(),
        "answer_hash": receipt.answer_hash.hex(),
        "tokens": list(receipt.tokens),
        "cost": receipt.cost.value,
        "ticks": receipt.ticks,
        "stop": int(receipt.stop),
        "started": receipt.started,
        "ended": receipt.ended,
        "worker": receipt.worker.hex(),
    }


def verify(lines: Iterable[str]) -> Document:
    """Check every line; the document says of each whether it holds, and if not, why.

    A receipt counts once, however often it stands there.
    """
    firsts: dict[object, First] = {}
    results = [
        _result(number, text, firsts) for number, text in enumerate(lines, 1) if text.strip()
    ]
    return {
        "schema": "tussah/verification/1",
        "receipts": results,
        "valid": len(firsts),
        "repeated": sum(result["repeats"] is not None for result in results),
        "invalid": sum(result["fault"] is not None for result in results),
    }


First: TypeAlias = tuple[int, Mapping[str, object]]
"""The line of the first receipt of a worker's offer, and what that says."""


def _result(number: int, text: str, firsts: dict[object, First]) -> Document:
    fault, told = _check(text)
    line = number
    if fault is None:
        of = told["offer"], told["worker"]
        line, first = firsts.setdefault(of, (number, told))
        fault = None if first == told else f"says something else than line {line} of one offer"
    return {
        "line": number,
        "fault": fault,
        "repeats": None if fault or line == number else line,
        "offer": told.get("offer"),
        "worker": told.get("worker"),
        "cost_nano": told.get("cost"),
        "tokens": told.get("tokens"),
    }


def _check(text: str) -> tuple[str | None, Mapping[str, object]]:
    """What is wrong with a line, and what its receipt says."""
    if len(text) > MAX_LINE:
        return "longer than a receipt can be", {}
    try:
        given = json.loads(text)
        signed, public = (bytes.fromhex(given[name]) for name in ("signed", "public"))
        told = words(tariff.verify(signed, public))
    except (ValueError, TypeError, KeyError, RecursionError):
        return "not a receipt in JSON, with `signed` and `public` in hex", {}
    except RemoteError as error:
        return str(error), {}
    wrong = [name for name, value in told.items() if given.get(name) != value]
    return (f"says another {wrong[0]} than was signed" if wrong else None), told
