"""`tussah demo`: a private and paid answer on this machine, and what each party saw of it.

Starts a chain, relays, a mint, workers and a client as processes on loopback, buys credits, asks
one question through three relays, pays for it, and closes every lane on the chain. In the report
nothing is assumed: the parties' recorders are searched for the asker's id, address and wallet, the
prompt and the answer, and the money is added up from the chain.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Final, TextIO, TypeAlias

from ledger.chain.embedded import NETWORK as LOCAL
from ledger.money import Nano
from p2p.identity import AdnlId, short_id
from scripts import books as books_of
from scripts import funds, networks, parties
from scripts.api import client as control
from scripts.books import DUST, Books
from scripts.failure import CODES, Document
from scripts.parties import Network, Party, Plan
from scripts.recorder import About, Markers, Saw, Seen

SCHEMA: Final = "tussah/demo/1"

QUESTION: Final = "Why is silk strong? Answer in one sentence."

PLAN: Final = Plan(
    relays=4,
    workers=2,
    mints=1,
    arguments=("--record",),
    config={
        "worker": 'worker.price = "0.15"\nworker.price_prompt = "0.03"\n',
        "client": 'ask.max_price = "0.033"\n',
    },
)
"""Prices are a thousand times those of a real network: one answer is then worth claiming."""

MAX_TOKENS: Final = 96
"""tokens of the answer: what they may cost at the most is set aside for it."""

HOPS: Final = 3

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One statement about the run, tested on what was recorded."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One party and what its recorder says after the answer."""

    party: Party
    id: AdnlId
    seen: Seen

    @property
    def name(self) -> str:
        """The party's name."""
        return self.party.name

    @property
    def role(self) -> str:
        """The party's role."""
        return self.party.role


def main(
    question: str | None = None,
    *,
    as_json: bool = False,
    keep: bool = False,
    plan: Plan = PLAN,
) -> int:
    """Run the demonstration; returns the exit status.

    Raises `Failed` if a part does not start or the question gets no answer.
    """
    began = time.monotonic()
    say = partial(_say, sys.stderr if as_json else sys.stdout)
    say(f"Starting {_parts(plan)}, each a process:\n")
    with parties.running(plan, lambda line: say(f"  {line}\n")) as network:
        say(f"  ready after {time.monotonic() - began:.1f} s\n")
        run = _run(network, question or QUESTION, say)
        document = _document(run, time.monotonic() - began)
        _say(sys.stdout, json.dumps(document) + "\n" if as_json else "\n".join(_report(run)) + "\n")
        if keep:
            _keep(network, say)
    say("Every process was stopped and its files were removed.\n")
    return 0 if all(check.ok for check in run.checks) else CODES["failed"].exit


def _parts(plan: Plan) -> str:
    paid = "a chain, a mint, " if plan.mints else ""
    return f"{paid}{plan.relays} relays, {plan.workers} workers and a client"


def _say(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def ton(nano: object) -> str:
    """An amount as people read it."""
    return str(Nano(_nano(nano)))


# --- the run ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The question, how it ended, and who saw what."""

    question: str
    result: Document
    witnesses: Sequence[Witness]
    path: Sequence[Witness]
    """Client, relays, worker."""
    checks: Sequence[Check]
    books: Books | None
    """None: a network that answers for free."""


def _run(network: Network, question: str, say: Say) -> Run:
    client = network.party("client")
    before = bought = None
    if network.profile.chain is not None:
        before = books_of.given(network)
        say("\nThe client buys credits from the mint, over a circuit:\n")
        bought = books_of.buy(network)
        say(f"  {_bought(bought)}\n")
    say(f"\nQuestion  {question}\nAnswer    ")
    body = control.question(question, relays=HOPS, max_tokens=MAX_TOKENS)
    result = control.ask(client.home.socket, body, say)
    say("\n\n")
    books = None
    if before is not None and bought is not None:
        say("Then the money comes to rest:\n")
        books = books_of.close(network, before, bought, lambda line: say(f"  {line}"))
        say("\n")

    nodes = [party for party in network.parties if party.role != parties.CHAIN]
    about = {party.name: About.from_json(party.call("GET", "/recorder")) for party in nodes}
    markers = _markers(about, question, result, _accounts(client) if books else ())
    witnesses = [_witness(party, about[party.name], markers) for party in nodes]
    path = _path(witnesses, result)
    checks = list(_checks(result, witnesses, path))
    checks.append(_logs(markers, network))
    checks += _money(result, books)
    return Run(
        question=question,
        result=result,
        witnesses=witnesses,
        path=path,
        checks=checks,
        books=books,
    )


def _accounts(client: Party) -> tuple[bytes, ...]:
    """What is the asker's on the chain."""
    lanes = client.call("GET", "/lanes")["lanes"]
    assert isinstance(lanes, list)
    wallet = funds.persistent_account(client.home, LOCAL)
    return (wallet, *(funds.account(str(lane["address"])) for lane in lanes))


def _witness(party: Party, about: About, markers: Markers) -> Witness:
    seen = Seen.from_json(party.call("POST", "/recorder", markers.to_json()))
    return Witness(party=party, id=short_id(about.public), seen=seen)


def _markers(
    about: Mapping[str, About], question: str, result: Document, payer: tuple[bytes, ...]
) -> Markers:
    """What to search for at every recorder."""
    publics = {short_id(party.public).hex(): party.public for party in about.values()}
    return Markers(
        client_public=about["client"].public,
        client_addresses=about["client"].addresses,
        worker_public=publics[_worker_id(result)],
        prompt=question,
        answer=str(result["answer"]),
        payer=payer,
    )


def _worker_id(result: Document) -> str:
    worker = result["worker"]
    assert isinstance(worker, Mapping)
    return str(worker["id"])


def _path(witnesses: Sequence[Witness], result: Document) -> list[Witness]:
    """The client, the relays that it says it took, and the worker."""
    by_id = {witness.id.hex(): witness for witness in witnesses}
    privacy = result["privacy"]
    assert isinstance(privacy, Mapping)
    client = next(witness for witness in witnesses if witness.role == "client")
    return [client, *(by_id[hop] for hop in [*privacy["path"], _worker_id(result)])]


# --- what must hold ---

Rows: TypeAlias = Iterator[Check]


def _checks(result: Document, witnesses: Sequence[Witness], path: Sequence[Witness]) -> Rows:
    """Every statement of the report."""
    relays = [witness for witness in witnesses if witness.role == "relay"]
    workers = [witness for witness in witnesses if witness.role == "worker"]
    mints = [witness for witness in witnesses if witness.role == "mint"]

    yield _answered(result)
    yield _whole(witnesses)
    yield _frames(witnesses)
    yield _nobody(
        "links", "link carried the prompt or the answer in clear", witnesses, _clear_on_links
    )
    yield _nobody("relays", "relay held the prompt or the answer", relays, _read)
    yield _nobody(
        "asker",
        "relay of the path behind the guard met the asker",
        [relay for relay in path[2:] if relay.role == "relay"],
        _met_client,
    )
    yield _nobody("worker", "worker met the asker", workers, _met_client)
    yield _nobody("unlinked", "relay joined asker and worker", relays, _joined)
    yield _carried(path)
    yield _bystander(workers, path[-1])
    if mints:
        yield _nobody("mint", "mint met the asker or read the text", mints, _met_or_read)
        others = [*relays, *workers]
        yield _nobody("payer", "relay or worker saw the asker's wallet", others, _saw_payer)


def _answered(result: Document) -> Check:
    finish, receipt = result["finish"], result["receipt"]
    ok = finish in ("stop", "length") and receipt is not None
    return Check(name="answered", ok=ok, detail=f"finish {finish}, receipt signed by the worker")


def _whole(witnesses: Sequence[Witness]) -> Check:
    cut = [witness.name for witness in witnesses if not witness.seen.complete]
    detail = f"incomplete: {', '.join(cut)}" if cut else "every recorder holds the whole run"
    return Check(name="recorded", ok=not cut, detail=detail)


def _frames(witnesses: Sequence[Witness]) -> Check:
    frames = sum(witness.seen.frames for witness in witnesses)
    odd = sum(witness.seen.odd_frames for witness in witnesses)
    detail = f"{frames} onion frames on all links, {odd} not of 1200 bytes"
    return Check(name="frames", ok=frames > 0 and odd == 0, detail=detail)


def _nobody(
    name: str, sin: str, witnesses: Sequence[Witness], guilty: Callable[[Witness], bool]
) -> Check:
    found = [witness.name for witness in witnesses if guilty(witness)]
    detail = f"{', '.join(found)}: {sin}" if found else f"no {sin}"
    return Check(name=name, ok=not found, detail=detail)


def _clear_on_links(witness: Witness) -> bool:
    return witness.seen.clear_on_links


def _read(witness: Witness) -> bool:
    return witness.seen.saw.prompt or witness.seen.saw.answer


def _met_client(witness: Witness) -> bool:
    return witness.seen.saw.client_id or witness.seen.saw.client_address


def _joined(witness: Witness) -> bool:
    return _met_client(witness) and witness.seen.saw.worker_id


def _met_or_read(witness: Witness) -> bool:
    return _met_client(witness) or _read(witness)


def _saw_payer(witness: Witness) -> bool:
    return witness.seen.saw.payer


def _carried(path: Sequence[Witness]) -> Check:
    """The recorders of neighbours agree that cells went from one to the other."""
    gaps = [
        f"{one.name} - {other.name}"
        for one, other in pairwise(path)
        if other.id not in one.seen.neighbours or one.id not in other.seen.neighbours
    ]
    detail = f"no cells on {', '.join(gaps)}" if gaps else "every link of the path carried cells"
    return Check(name="path", ok=not gaps, detail=detail)


def _bystander(workers: Sequence[Witness], answering: Witness) -> Check:
    """The worker that was not asked knows nothing; the one that was must have read the prompt."""
    others = [worker for worker in workers if worker is not answering]
    ok = not any(_read(worker) for worker in others) and _read(answering)
    detail = f"{answering.name} alone read the prompt and wrote the answer"
    return Check(name="reader", ok=ok, detail=detail)


def _logs(markers: Markers, network: Network) -> Check:
    """No log of any process names the asker, its address, the prompt or the answer."""
    guilty = [
        party.name
        for party in network.parties
        if party.home.log.exists() and markers.names_asker(party.home.log.read_bytes())
    ]
    detail = f"{', '.join(guilty)}: log names the asker or the text" if guilty else "no log does"
    return Check(name="logs", ok=not guilty, detail=detail)


def _money(result: Document, books: Books | None) -> Rows:
    """That nothing was lost, and nobody was paid who did not work."""
    cost = result["cost"]
    assert isinstance(cost, Mapping)
    paid = cost["paid_nano"]
    if books is None:
        detail = f"{paid} nano paid; this network answers for free"
        yield Check(name="conserved", ok=paid == 0, detail=detail)
        return
    gap = books.earned - paid
    yield Check(
        name="paid",
        ok=books.paid == books.earned and 0 <= gap < DUST and paid > 0,
        detail=f"client {ton(books.paid)}, worker {ton(books.earned)}: the same",
    )
    yield Check(
        name="settled",
        ok=books.open_lanes == 0 and books.claims > 0,
        detail=f"{books.claims} claims and closes on the chain, {books.open_lanes} lanes left open",
    )
    yield _conserved(books)


def _conserved(books: Books) -> Check:
    """What the giver gave is there, but for the fees; the chain's own sheet is exact."""
    supply = books.supply
    before = sum(balance.on_chain for balance in books.before)
    after = sum(balance.on_chain for balance in books.after)
    gave = _nano(supply["genesis"]) - _nano(supply["giver"])
    ok = bool(supply["exact"]) and before == gave == after + books.fees
    detail = f"{ton(before)} before, {ton(after)} after, {ton(books.fees)} in fees"
    return Check(name="conserved", ok=ok, detail=detail)


def _nano(value: object) -> int:
    assert isinstance(value, int)
    return value


# --- as a document, as a report ---


def _document(run: Run, wall_s: float) -> Document:
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
        "path": [witness.name for witness in run.path],
        "chain": None if run.books is None else books_of.document(run.books),
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


def _report(run: Run) -> Iterator[str]:
    yield f"Path      {' - '.join(witness.name for witness in run.path)}"
    yield from _timing(run.result)
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


def _bought(bought: Document) -> str:
    return (
        f"bundle {bought['bundle']}: {ton(bought['value_nano'])} in credits for "
        f"{ton(bought['price_nano'])}, over a lane opened on the chain"
    )


def _timing(result: Document) -> Iterator[str]:
    timing, usage = result["timing_ms"], result["usage"]
    assert isinstance(timing, Mapping)
    assert isinstance(usage, Mapping)
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


def _keep(network: Network, say: Say) -> None:
    """Leave the network running for other nodes until Ctrl-C."""
    say(
        "\nThe network keeps running until Ctrl-C. Join it from another home:\n"
        f"  tussah network join {networks.invite(network.profile)}\n"
    )
    try:
        while True:
            time.sleep(1.0)
            for party in network.parties:
                party.check()
    except KeyboardInterrupt:
        say("\n")
