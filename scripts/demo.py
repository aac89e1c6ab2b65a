"""`tussah demo`: a private answer on this machine, and what each party saw of it.

Starts relays, workers and a client as processes on loopback, asks one question through three
relays, and prints a report in which nothing is assumed: the parties' recorders are searched for
the asker's id and address, the prompt and the answer.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final, TextIO, TypeAlias

from p2p.identity import AdnlId, short_id
from scripts import networks, parties
from scripts.api import client as control
from scripts.failure import CODES, Document
from scripts.parties import Network, Party, Plan
from scripts.recorder import About, Markers, Saw, Seen

SCHEMA: Final = "tussah/demo/1"

QUESTION: Final = "Why is silk strong? Answer in one sentence."

PLAN: Final = Plan(relays=4, workers=2, arguments=("--record",))

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
    say(f"Starting {plan.relays} relays, {plan.workers} workers and a client, each a process:\n")
    with parties.running(plan, lambda line: say(f"  {line}\n")) as network:
        say(f"  ready after {time.monotonic() - began:.1f} s\n")
        run = _run(network, question or QUESTION, say)
        document = _document(run, time.monotonic() - began)
        _say(sys.stdout, json.dumps(document) + "\n" if as_json else "\n".join(_report(run)) + "\n")
        if keep:
            _keep(network, say)
    say("Every process was stopped and its files were removed.\n")
    return 0 if all(check.ok for check in run.checks) else CODES["failed"].exit


def _say(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


# --- the run ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The question, how it ended, and who saw what."""

    question: str
    result: Document
    witnesses: Sequence[Witness]
    path: Sequence[Witness]
    """Client, relays, worker: found by following who carried cells with whom."""
    checks: Sequence[Check]


def _run(network: Network, question: str, say: Say) -> Run:
    client = network.party("client")
    say(f"\nQuestion  {question}\nAnswer    ")
    result = control.ask(client.home.socket, control.question(question, relays=HOPS), say)
    say("\n\n")

    about = {
        party.name: About.from_json(party.call("GET", "/recorder")) for party in network.parties
    }
    markers = _markers(about, question, result)
    witnesses = [_witness(party, about[party.name], markers) for party in network.parties]
    path = _path(witnesses, _worker_id(result))
    checks = list(_checks(result, witnesses, path))
    checks.append(_logs(markers, network))
    return Run(question=question, result=result, witnesses=witnesses, path=path, checks=checks)


def _witness(party: Party, about: About, markers: Markers) -> Witness:
    seen = Seen.from_json(party.call("POST", "/recorder", markers.to_json()))
    return Witness(party=party, id=short_id(about.public), seen=seen)


def _markers(about: Mapping[str, About], question: str, result: Document) -> Markers:
    """What to search for at every recorder."""
    publics = {short_id(party.public).hex(): party.public for party in about.values()}
    return Markers(
        client_public=about["client"].public,
        client_addresses=about["client"].addresses,
        worker_public=publics[_worker_id(result)],
        prompt=question,
        answer=str(result["answer"]),
    )


def _worker_id(result: Document) -> str:
    worker = result["worker"]
    assert isinstance(worker, Mapping)
    return str(worker["id"])


def _path(witnesses: Sequence[Witness], worker: str) -> list[Witness]:
    """From the client along the links that carried cells, as far as they lead one way."""
    by_id = {witness.id: witness for witness in witnesses}
    path = [witness for witness in witnesses if witness.role == "client"]
    while path[-1].id.hex() != worker:
        ahead = [by_id[n] for n in path[-1].seen.neighbours if n in by_id and by_id[n] not in path]
        if not ahead:
            break
        path.append(ahead[0])
    return path


# --- what must hold ---

Rows: TypeAlias = Iterator[Check]


def _checks(result: Document, witnesses: Sequence[Witness], path: Sequence[Witness]) -> Rows:
    """Every statement of the report."""
    relays = [witness for witness in witnesses if witness.role == "relay"]
    workers = [witness for witness in witnesses if witness.role == "worker"]

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
    yield _bystander(workers, path[-1])
    yield _money(result)


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


def _money(result: Document) -> Check:
    cost = result["cost"]
    assert isinstance(cost, Mapping)
    detail = f"{cost['paid_nano']} nano paid; this network answers for free"
    return Check(name="conserved", ok=cost["paid_nano"] == 0, detail=detail)


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
            "mints": 0,
        },
        "model": run.result["model"],
        "question": run.question,
        "answer": run.result["answer"],
        "usage": run.result["usage"],
        "cost": run.result["cost"],
        "timing_ms": run.result["timing_ms"],
        "path": [witness.name for witness in run.path],
        "chain": None,
        "parties": [_party(witness) for witness in run.witnesses],
        "checks": [asdict(check) for check in run.checks],
        "wall_s": round(wall_s, 1),
    }


def _party(witness: Witness) -> Document:
    return {
        "name": witness.name,
        "role": witness.role,
        "id": witness.id.hex(),
        "saw": asdict(witness.seen.saw),
        "earned_nano": 0,
        "paid_nano": 0,
        "cells": witness.seen.frames,
        "bytes": witness.seen.bytes,
    }


COLUMNS: Final = {
    "client_address": "your address",
    "client_id": "your id",
    "worker_id": "the worker",
    "prompt": "the question",
    "answer": "the answer",
}


def _report(run: Run) -> Iterator[str]:
    yield f"Path      {' - '.join(witness.name for witness in run.path)}"
    yield from _timing(run.result)
    yield "Paid      nothing: this network answers for free"
    yield ""
    yield "What each party saw, searched in everything that reached it and all that it decrypted:"
    yield "  ".join([f"  {'':<9}", *COLUMNS.values()])
    yield from (_row(witness, run.path) for witness in run.witnesses)
    yield "  (Everybody's directory lists all workers; what counts is meeting one on a circuit.)"
    yield ""
    yield from (f"{'ok  ' if c.ok else 'FAIL'} {c.name:<10} {c.detail}" for c in run.checks)


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
