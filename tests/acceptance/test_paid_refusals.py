"""A question that cannot be paid for is refused in pinned words and exit codes, and costs nothing.

`paid_refusals.json` holds code, exit status and words. One network lives through all of it: a
client with coins but without credits, and one without either, then a thief with copied credits.
"""

import json
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import networks
from scripts.home import Home, write_private
from scripts.parties import running
from tests.acceptance import paid
from tests.acceptance.processes import (
    PATIENCE,
    check_command,
    command,
    kill,
    no_errors,
    until,
)

SNAPSHOT = json.loads((Path(__file__).parent / "paid_refusals.json").read_text("utf-8"))

FEW = {"max_tokens": 4}
"""An answer that takes little, so that a bundle is enough for several."""


def refused(name, party, *options):
    """A question on the command line ends as the snapshot has it, and nothing was lost."""
    before = wealth(party)
    words = ("ask", "Who wove first?", "--max-tokens", "4", "--deadline", "4", *options)
    with command(party.home, *words) as process:
        assert check_command(SNAPSHOT[name], process) == ""
    assert wealth(party) == before


def wealth(party):
    """What a party has in credits, those included that come back when a lock is over."""
    flying = "SELECT sum(1 << j) FROM credit WHERE state = 'reserved'"
    promised = "SELECT sum(cumulative) FROM lane WHERE role = 'payer'"
    return paid.credit(party) + paid.total(party, flying), paid.total(party, promised)


@pytest.fixture
def network():
    with running(paid.plan(relays=1, workers=1)) as network:
        yield network
        for party in network.parties:
            kill(party)


def test_what_cannot_be_paid_for_is_refused_and_costs_nothing(network, tmp_path):
    client, mint, chain, worker = map(network.party, ("client", "mint", "chain", "worker-1"))
    pauper = another(client, network, Home(tmp_path / "pauper"))

    refused("price above cap", client, "--max-price", "1n")
    check_frozen(client, chain)
    paid.buy(client)
    assert paid.total(client, "SELECT count(*) FROM lane") == 1
    copy = copied(client)
    check_paid(client, at_once=2)
    until(lambda: is_up(pauper))

    before = paid.listed_at(pauper, mint)
    kill(mint)
    refused("mint down", client)
    refused("mint down, no credits", pauper)
    back(mint)
    until(lambda: paid.listed_at(pauper, mint) not in (None, before))
    refused("no credits, empty wallet", pauper)

    kill(chain)
    check_paid(client)
    refused("chain down, no credits", pauper)
    steal(copy, pauper)
    refused("spent before", pauper)

    until(lambda: not paid.in_flight(client))
    paid.check_books(mint, [client], [worker])
    assert no_errors(network)


def check_frozen(client, chain):
    """A chain that stops while it is to open a lane is not waited for long, and costs nothing."""
    with command(client.home, "credits", "buy") as process:
        began = time.monotonic()
        while b"opening a lane for it" not in (line := process.stderr.readline()):
            assert line
        chain.process.send_signal(signal.SIGSTOP)
        try:
            words = process.stderr.read().decode()
            assert process.wait(PATIENCE) == 4
        finally:
            chain.process.send_signal(signal.SIGCONT)
        assert time.monotonic() - began < PATIENCE
    assert "tussah: No credits were bought: " in words
    assert "Check the chain of the network, then try again." in words
    assert paid.credit(client) == 0


def check_paid(client, at_once=1):
    """So many questions side by side are answered."""
    askings = [paid.ask(client, deadline_s=20, **FEW) for _ in range(at_once)]
    for asking in askings:
        assert asking.answer()["finish"] == "length"
    until(lambda: not paid.in_flight(client))


def another(client, network, home):
    """A client like another one, and nobody gave its wallet a coin."""
    party = replace(client, name="pauper", home=home)
    networks.save(home, network.profile)
    write_private(home.config, client.home.config.read_text())
    network.parties.append(party)
    party.start()
    return party


def copied(client):
    """The credits of a client as they are now, and none of its lanes."""
    copy = sqlite3.connect(":memory:")
    with paid.ledger(client) as source:
        source.backup(copy)
    copy.executescript(
        "DELETE FROM lane; DELETE FROM chain_tx; DELETE FROM chain_msg; DELETE FROM outbox"
    )
    return copy


def steal(copy, thief):
    """A thief has the credits and not the keys, and makes the store its own."""
    kill(thief)
    with closing(sqlite3.connect(thief.home.ledger)) as target:
        copy.backup(target)
        target.execute("DELETE FROM owner")
        target.commit()
    back(thief)
    until(lambda: is_up(thief))


def back(party):
    party.process.let_go()
    party.start()


def is_up(client):
    known = (client.status() or {"network": {}})["network"]
    return known.get("relays") and known["workers"] and known["mints"]
