"""The documents of one ask: what is told while it runs, and the whole of it at the end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from inference.client import Done, Offered, Progress
from ledger import tariff
from ledger.money import Nano
from p2p.onion.shaping import Shape, Shaping
from scripts.api.common import ASSURANCE, prices
from scripts.failure import Document
from scripts.receipts import words

FEW_SLOTS: Final = 20
"""worker slots below which the choice of one hides little."""

FEW_CLIENTS: Final = 50
"""active clients below which an asker stands out."""

MANY_CLIENTS: Final = 500
"""active clients from which one whose line is always busy is hidden as well as can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Facts of the network at the time of an ask."""

    dev: bool
    clients_claimed: int
    chain: str | None = None
    """Name of the chain that answers are paid on; None: they are free."""
    worthless: bool = True
    """Whether its coins are."""
    guard_ages: Mapping[bytes, float] = field(default_factory=dict)
    """Seconds that this node's first relays have been so, by their ids."""


def offered(event: Offered) -> Document:
    """The worker agreed."""
    return {
        "worker": event.worker.hex(),
        "ahead": event.ahead,
        "wait_s": event.wait_s,
        "quoted_nano": event.quoted.value,
        "prices": prices(event.prices),
    }


def progress(event: Progress) -> Document:
    """The worker reads."""
    return {"prompt_tokens": event.prompt, "cached_tokens": event.cached, "done": event.done}


def ask(done: Done, terms: Terms, request_id: str) -> Document:
    """A whole answer and everything known about how it came to be."""
    return {
        "schema": "tussah/ask/1",
        "id": request_id,
        "model": done.model,
        "model_hash": done.identity.hex(),
        "answer": done.text,
        "finish": done.finish,
        "usage": _usage(done),
        "cost": {**cost(done.quoted, done.paid), "prices": prices(done.prices)},
        "timing_ms": {
            "circuit": done.timing.circuit,
            "offer": done.timing.offer,
            "first_token": done.timing.first_token,
            "total": done.timing.total,
        },
        "tokens_per_s": _tokens_per_s(done),
        "privacy": _privacy(done, terms),
        "worker": {"id": done.worker.hex(), "assurance": ASSURANCE[0]},
        "refusals": [{"worker": r.worker.hex(), "reason": r.reason} for r in done.refusals],
        "receipt": _receipt(done.receipt),
    }


def cost(quoted: Nano, paid: Nano) -> Document:
    """What was set aside, what of it is paid, and what comes back."""
    return {
        "quoted_nano": quoted.value,
        "paid_nano": paid.value,
        "change_nano": max(0, quoted.value - paid.value),
    }


def _usage(done: Done) -> Document:
    """As OpenAI counts: the prompt holds what was cached, the completion holds reasoning."""
    usage = done.usage
    prompt, completion = usage.prompt + usage.cached, usage.completion + usage.reasoning
    return {
        "prompt_tokens": prompt,
        "cached_tokens": usage.cached,
        "completion_tokens": completion,
        "reasoning_tokens": usage.reasoning,
        "total_tokens": prompt + completion,
    }


def _tokens_per_s(done: Done) -> float | None:
    """Of the answer, from its first token to its end."""
    first, tokens = done.timing.first_token, len(done.ids)
    if first is None or tokens < 2 or done.timing.total <= first:
        return None
    return round((tokens - 1) * 1_000 / (done.timing.total - first), 1)


def _privacy(done: Done, terms: Terms) -> Document:
    relays, shape = len(done.path) - 1, done.shape
    reasons = list(_weaknesses(relays, done.slots, terms, is_shaped=shape is not None))
    return {
        "asker": _asker(relays, reasons, terms, _level(shape)),
        "readable_by": "the worker",
        "reasons": reasons,
        "relays": relays,
        "shaping": int(_level(shape)),
        "shape": None if shape is None else _shape(shape),
        "slots": done.slots,
        "clients_claimed": terms.clients_claimed,
        "anonymity_set": max(1, terms.clients_claimed),
        "guard_age_s": _age(done, terms),
        "path": [hop.hex() for hop in done.path[:-1]],
        "resumed": done.resumed,
    }


def _age(done: Done, terms: Terms) -> int | None:
    """Seconds that the first relay has been this node's guard; None if it is none."""
    age = terms.guard_ages.get(done.path[0])
    return None if age is None else max(0, round(age))


def _level(shape: Shape | None) -> Shaping:
    """As it was, whatever was asked for."""
    if shape is None:
        return Shaping.OFF
    return Shaping.ALWAYS if shape.always else Shaping.PADDED


def _asker(relays: int, reasons: Sequence[str], terms: Terms, level: Shaping) -> str:
    """How well the asker is hidden, in a word."""
    if relays == 0:
        return "none"
    if reasons:
        return "basic"
    is_best = level is Shaping.ALWAYS and terms.clients_claimed >= MANY_CLIENTS
    return "best" if is_best else "good"


def _shape(shape: Shape) -> Document:
    """What of the request shows on each link of its path, and what that costs."""
    return {
        "rate": shape.rate,
        "prompt_cells": shape.prompt_cells,
        "answer_s": shape.answer_s,
        "left_s": round(shape.left_s, 2),
        "link_bytes": shape.link_bytes,
    }


def _weaknesses(relays: int, slots: int, terms: Terms, *, is_shaped: bool) -> Iterable[str]:
    """Why the asker is hidden less well than could be, a sentence each."""
    if relays < 3:
        yield f"Only {relays} relays stand between you and the worker."
    if slots < FEW_SLOTS:
        yield f"The worker was drawn among {slots}; below {FEW_SLOTS} the choice hides little."
    if terms.clients_claimed < FEW_CLIENTS:
        yield f"The relays claim {terms.clients_claimed} active clients; you hide among these."
    if terms.dev:
        yield "This is a dev network: one person may run all of it."
    else:
        yield "Nobody has staked anything on this network: relays cost nothing to make."
    if not is_shaped:
        yield "Traffic is not shaped: when tokens came and how many shows on every link."


def _receipt(signed: bytes) -> Document:
    return {**words(tariff.read(signed)), "signed": signed.hex()}
