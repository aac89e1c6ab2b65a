"""A demonstration told: as one JSON document, or as a page for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from scripts.demo import books as books_of
from scripts.demo.books import Books
from scripts.demo.story import Run, Witness, ton
from scripts.failure import Document
from scripts.recorder import Saw
from scripts.shaping import shaping

SCHEMA: Final = "tussah/demo/1"


def document(run: Run, wall_s: float) -> Document:
    count = {
        role: sum(w.role == role for w in run.witnesses) for role in ("client", "relay", "worker")
    }
    return {
        "schema": SCHEMA,
        "nodes": {
            "clients": count["client"],
            "relays": count["relay"],
            "workers": count["worker"],
            "mints": sum(w.role == "mint" for w in run.witnesses),
        },
        "model": run.result["model"],
        "question": run.question,
        "answer": run.result["answer"],
        "usage": run.result["usage"],
        "cost": run.result["cost"],
        "timing_ms": run.result["timing_ms"],
        "shaping": _part(run.result, "privacy")["shaping"],
        "path": [witness.name for witness in run.path],
        "chain": None if run.books is None else books_of.document(run.books),
        "found": [found.document() for found in run.found],
        "parties": [_party(witness, run) for witness in run.witnesses],
        "checks": [asdict(check) for check in run.checks],
        "wall_s": round(wall_s, 1),
    }


def _party(witness: Witness, run: Run) -> Document:
    books, answering = run.books, run.path[-1]
    return {
        "name": witness.name,
        "role": witness.role,
        "id": witness.id.hex(),
        "saw": asdict(witness.seen.saw),
        "earned_nano": books.earned if books and witness is answering else 0,
        "paid_nano": books.paid if books and witness.role == "client" else 0,
        "cells": witness.seen.frames,
        "bytes": witness.seen.bytes,
    }


COLUMNS: Final = {
    "client_address": "your address",
    "client_id": "your id",
    "worker_id": "the worker",
    "prompt": "the question",
    "answer": "the answer",
    "payer": "your wallet",
}


def report(run: Run) -> Iterator[str]:
    yield f"Path      {' - '.join(witness.name for witness in run.path)}"
    yield from _timing(run.result)
    yield f"Traffic   {shaping(_part(run.result, 'privacy'))}"
    yield from _paid(run.result, run.books)
    yield ""
    yield "What each party saw, searched in everything that reached it and all that it decrypted:"
    yield "  ".join([f"  {'':<9}", *COLUMNS.values()])
    yield from (_row(witness, run.path) for witness in run.witnesses)
    yield "  (Everybody's directory lists all workers; what counts is meeting one on a circuit.)"
    yield ""
    yield from (f"{'ok  ' if c.ok else 'FAIL'} {c.name:<10} {c.detail}" for c in run.checks)


def _paid(result: Document, books: Books | None) -> Iterator[str]:
    if books is None:
        yield "Paid      nothing: this network answers for free"
        return
    receipt = result["receipt"]
    assert isinstance(receipt, Mapping)
    yield (
        f"Paid      {ton(books.paid)} in {receipt['ticks']} ticks for a cost of "
        f"{ton(receipt['cost'])}; {ton(books.change)} of the bundle is left or came back"
    )
    yield ""
    yield from _on_chain(books)
    yield ""
    yield "  {:<10}{:>20}{:>20}{:>20}".format("who", "before", "after", "credits after")
    for before, after in zip(books.before, books.after, strict=True):
        amounts = (ton(before.on_chain), ton(after.on_chain), ton(after.credits))
        yield "  {:<10}{:>20}{:>20}{:>20}".format(before.name, *amounts)


def _on_chain(books: Books) -> Iterator[str]:
    """Every transaction, with what came in and what it cost."""
    yield "On the chain (this network's own, its coins worth nothing; machine and fees are TON's):"
    row = "  {:<10}{:<8}{:<19}{:>18}{:>18}  {}"
    yield row.format("sent by", "what", "account", "coins in", "fee", "transaction").rstrip()
    for each in books.transactions:
        address = str(each["account"])
        yield row.format(
            each["party"],
            each["kind"],
            books.names.get(address, f"lane {address[:8]}"),
            ton(each["amount_nano"]),
            ton(each["fee_nano"]),
            str(each["transaction"])[:8],
        )


def bought(bought: Document) -> str:
    return (
        f"bundle {bought['bundle']}: {ton(bought['value_nano'])} in credits for "
        f"{ton(bought['price_nano'])}, over a lane opened on the chain"
    )


def _part(result: Document, name: str) -> Document:
    part = result[name]
    assert isinstance(part, Mapping)
    return part


def _timing(result: Document) -> Iterator[str]:
    timing, usage = _part(result, "timing_ms"), _part(result, "usage")
    steps = ("circuit", "offer", "first_token", "total")
    yield "Timing    " + ", ".join(f"{step.replace('_', ' ')} {timing[step]} ms" for step in steps)
    yield f"Tokens    {usage['completion_tokens']} at {result['tokens_per_s']} a second"


def _row(witness: Witness, path: Sequence[Witness]) -> str:
    saw: Saw = witness.seen.saw
    marks = [
        ("yes" if getattr(saw, field) else "-").ljust(len(title))
        for field, title in COLUMNS.items()
    ]
    place = _place(witness, path)
    return "  ".join([f"  {witness.name:<9}", *marks, place]).rstrip()


def _place(witness: Witness, path: Sequence[Witness]) -> str:
    if witness.role == "mint":
        return "sold and redeemed credits"
    if witness not in path:
        return "gave you the directory" if witness.seen.saw.client_address else "not asked"
    at = path.index(witness)
    return {"client": "you", "worker": "answered"}.get(
        witness.role, f"relay {at} of {len(path) - 2}"
    )
