"""`tussah demo`: a private and paid answer on this machine, and what each party saw of it.

Starts a chain, relays, a mint, workers and a client as processes on loopback, buys credits, asks
one question through three relays, pays for it, and closes every lane on the chain. In the report
nothing is assumed: the parties' recorders are searched for the asker's id, address and wallet, the
prompt and the answer, and the money is added up from the chain.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TextIO, TypeAlias

from p2p.identity import short_id
from scripts import funds, networks, parties
from scripts.api import client as control
from scripts.demo import books as books_of
from scripts.demo import checks, finding, report
from scripts.demo.story import Run, Witness
from scripts.failure import CODES, Document
from scripts.networks import LOCAL
from scripts.parties import Network, Party, Plan
from scripts.recorder import About, Markers, Seen

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

FREE: Final = replace(PLAN, mints=0, config={})
"""Nobody is paid: no chain is needed."""

MAX_TOKENS: Final = 96
"""tokens of the answer: what they may cost at the most is set aside for it."""

HOPS: Final = 3

Say: TypeAlias = Callable[[str], None]


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
        document = report.document(run, time.monotonic() - began)
        _say(
            sys.stdout,
            json.dumps(document) + "\n" if as_json else "\n".join(report.report(run)) + "\n",
        )
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


# --- the run ---


def _run(network: Network, question: str, say: Say) -> Run:
    client = network.party("client")
    all_found = finding.found(network)
    say("\n" + "\n".join(finding.told(all_found)) + "\n")
    before = bought = None
    if network.profile.chain is not None:
        before = books_of.given(network)
        say("\nThe client buys credits from the mint, over a circuit:\n")
        bought = books_of.buy(network)
        say(f"  {report.bought(bought)}\n")
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
    held = [finding.check(all_found), *checks.checks(result, witnesses, path)]
    held.append(checks.logs(markers, network))
    held += checks.money(result, books)
    return Run(
        question=question,
        result=result,
        witnesses=witnesses,
        path=path,
        checks=held,
        books=books,
        found=all_found,
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
