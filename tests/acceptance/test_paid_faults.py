"""Whoever dies in the middle of a paid answer, nobody loses more than a tick, and no coin is lost.

Real processes are killed and started again from their homes. What each session cost is then read
from the mint's book, and held against what its asker got of the answer; all books together must
account for every coin.
"""

from contextlib import suppress

from scripts.failure import Failed
from scripts.parties import running
from tests.acceptance import paid
from tests.acceptance.paid import PRICE, PRICE_PROMPT, TICK
from tests.acceptance.processes import PROMPT, kill, no_errors, until

READ = len(f"user: {PROMPT}\nassistant:")
"""tokens of the question: the fake engine reads bytes"""


class Session:
    """A question that is paid for, in the middle of its answer."""

    def __init__(self, client, worker, **options):
        self.asking = paid.ask(client, of=paid.id_of(worker), **options).begun(3)
        self.id = paid.newest_session(client)

    @property
    def worth(self):
        """Ticks that what the asker got is worth, rounded up."""
        cost = READ * PRICE_PROMPT + self.asking.tokens * PRICE
        return -(-cost // TICK)

    def paid(self, mint):
        """Ticks that its mint paid for it; there will be no more."""
        ticks, final = paid.lock_of(mint, self.id)
        assert final
        return ticks


def test_whoever_dies_nobody_loses_more_than_a_tick():
    with running(paid.plan(relays=1, workers=2, clients=2)) as network:
        mint, chain, late, worker = map(network.party, ("mint", "chain", "worker-1", "worker-2"))
        client, other = clients = network.of("client")
        paid.buy(*clients)

        before = paid.listed_at(client, worker)
        missed = lost_with_its_worker(late, client)
        sessions = [lost_with_its_worker(worker, other, back=True)]
        until(lambda: paid.listed_at(client, worker) not in (None, before))
        sessions += [
            lost_with_its_client(client, worker),
            answered_though_they_die([mint, chain], client, worker),
        ]
        until(lambda: paid.lock_of(mint, missed.id)[1])
        start(late)
        until(lambda: not any(map(paid.in_flight, clients)))
        until(lambda: not paid.unsettled(late))

        for session in sessions:
            assert abs(session.paid(mint) - session.worth) <= 1
        check_missed(missed, mint, late)
        paid.check_books(mint, clients, [late, worker])
        assert chain.call("GET", "/supply")["exact"]
        assert no_errors(network)
        end(network)


def lost_with_its_worker(party, client, *, back=False):
    session = Session(client, party)
    kill(party)
    if back:
        start(party)
    assert session.asking.end().failure.code == "worker_lost"
    return session


def lost_with_its_client(client, worker):
    session = Session(client, worker)
    kill(client)
    start(client)
    session.asking.end()
    until(lambda: knows_all(client))
    return session


def answered_though_they_die(parties, client, worker):
    """What is locked is worth something whatever becomes of the mint and the chain meanwhile."""
    session = Session(client, worker, deadline_s=20)
    for party in parties:
        kill(party)
        start(party)
    assert session.asking.answer()["finish"] == "stop"
    for party in parties:
        until(party.status)
    return session


def check_missed(session, mint, worker):
    """Who stays away until a lock is over has settled all but its newest tick by then."""
    ((revealed,),) = paid.rows(worker, "SELECT i FROM taking WHERE session = ?", session.id)
    assert abs(revealed - session.worth) <= 1
    assert revealed - 1 <= session.paid(mint) <= revealed


def start(party):
    """A party comes back from its home; it need not be up yet."""
    party.process.let_go()
    party.start()


def knows_all(client):
    known = (client.status() or {"network": {}})["network"]
    return known.get("relays") and known["workers"] and known["mints"] and has_purse(client)


def has_purse(client):
    with suppress(Failed):
        return client.call("GET", "/credits")
    return None


def end(network):
    """Nobody need take leave."""
    for party in network.parties:
        kill(party)
