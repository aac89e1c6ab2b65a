"""A paid network of processes, and its books: read from the stores, never from what parties say."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass

from ledger.sqlbook import SqlBook
from p2p.entropy import SystemEntropy
from scripts import networks
from scripts.parties import Plan, free_port
from tests.acceptance.processes import Asking

PRICE, PRICE_PROMPT = 50_000, 10_000
"""nano a token"""

TICK = 16 * PRICE
"""nano: at ten tokens/s a tick is as few tokens as one can be, where nothing waits for slots"""

DUST = 1_024
"""nano: what is too little for a credit is the worker's"""

FAKE = 'worker.engine = "fake"\nworker.fake_rate = 10\nworker.seed = 1\n'

DEADLINE = 6
"""seconds for an answer of three; ten later its lock is over, whoever is away"""


def plan(relays=3, **counts):
    """A network of a chain, a mint, relays, and workers that charge."""
    worker = f'{FAKE}worker.price = "0.05"\nworker.price_prompt = "0.01"\n'
    client = f'{FAKE}ask.max_price = "0.05"\nask.relays = {min(3, relays)}\nask.shaping = 0\n'
    mint = f"node.port = {free_port()}\n"  # where workers find it again once it was away
    config = {"worker": worker, "client": client, "mint": mint}
    return Plan(relays=relays, mints=1, config=config, **counts)


def ask(party, **options):
    """A question that is paid for."""
    return Asking(party, **{"max_tokens": 40, "deadline_s": DEADLINE, **options})


def buy(*parties):
    """Each buys a bundle, side by side."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda party: party.call("POST", "/credits/buy", {}), parties))


def id_of(party):
    """The id, in hex, of a node that has a role; it need not run."""
    return networks.persistent_identity(party.home, SystemEntropy()).id.hex()


def listed_at(party, other):
    """When another node said last that it is there, as far as a party has heard; None: it left."""
    peers, wanted = party.call("GET", "/peers")["peers"], id_of(other)
    return next((peer["last_seen_at"] for peer in peers if peer["id"] == wanted), None)


# --- the stores ---


@contextmanager
def ledger(party):
    """The store of a party, which may be running."""
    with closing(sqlite3.connect(f"file:{party.home.ledger}?mode=ro", uri=True)) as connection:
        yield connection


def rows(party, query, *values):
    """What a query finds in a party's store."""
    with ledger(party) as connection:
        return connection.execute(query, values).fetchall()


def total(party, query):
    """A sum in a party's store."""
    return rows(party, query)[0][0] or 0


def newest_session(client):
    """The session that a client has paid for last."""
    return rows(client, "SELECT session FROM session ORDER BY rowid DESC LIMIT 1")[0][0]


def lock_of(mint, session):
    """Ticks paid, and whether there will be more, of a session at its mint."""
    ((paid, final),) = rows(mint, "SELECT i, final FROM lock WHERE session = ?", session)
    return paid, bool(final)


def unsettled(worker):
    """Sessions that its mint has still something to say of."""
    return total(worker, "SELECT count(*) FROM taking WHERE NOT done")


def in_flight(client):
    """Sessions whose change has not come yet."""
    return total(client, "SELECT count(*) FROM session WHERE state <> 'done'")


def credit(client):
    """nano of the credits at hand."""
    return total(client, "SELECT sum(1 << j) FROM credit WHERE state = 'live'")


def held(worker):
    """nano that a worker has vouchers for."""
    return total(worker, "SELECT sum(cumulative) FROM lane WHERE role = 'payee'")


@dataclass(frozen=True, kw_only=True)
class Books:
    """All coins of a network outside its chain, once nothing is under way."""

    bought: int
    """What the clients' vouchers paid for, the mint's fee taken off."""
    credit: int
    locked: int
    promised: int
    """To workers, by the mint."""
    held: int
    """By workers."""
    locks: int


def books(mint, clients, workers):
    """Add all of them up; the mint's own sheet must be zero at any time."""
    with ledger(mint) as connection:
        sheet = SqlBook(connection).sheet()
    assert sheet.difference == 0
    credits_ = sum(credit(client) for client in clients)
    return Books(
        bought=(sheet.received - sheet.advance - sheet.fees).value,
        credit=credits_,
        locked=sheet.locked.value,
        promised=sheet.given.value,
        held=sum(held(worker) for worker in workers),
        locks=total(mint, "SELECT count(*) FROM lock"),
    )


def check_books(mint, clients, workers):
    """Every coin is somewhere: with the asker, or with the worker. Gives what workers earned."""
    found = books(mint, clients, workers)
    assert found.locked == 0
    assert found.credit + found.promised == found.bought
    # What a lock left over in the end a worker hears of with the next voucher.
    assert 0 <= found.promised - found.held < DUST * found.locks
    return found.promised
