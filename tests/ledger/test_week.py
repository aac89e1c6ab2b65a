"""A week of three mints, fifty workers and two hundred askers, in virtual time: no nano is lost.

Real mints' cores and real coins; the books balance after every call. Some of them cheat, each in
the way that its side can, and whoever deals with one loses a tick at the most.
"""

import random
from collections import Counter

import pytest

from ledger.credit import LEAST, worth
from ledger.messages import Change, Changed, Code, Err, Lock, Locked, Settled
from ledger.money import ZERO, Nano
from p2p.identity import Identity
from simulations.book import MemoryBook
from tests.ledger.parties import MINT as KEY
from tests.ledger.parties import WEEK, Customer, Desk, parse_keyset

MINTS, WORKERS, ASKERS, ASKS = 3, 50, 200, 600

TICKS = 10

KINDS = ("honest", "silent asker", "silent worker", "greedy worker", "double spender")


class Week:
    """Everybody, and what each session should have come to."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.desks = [Desk(MemoryBook()) for _ in range(MINTS)]
        self.workers = [Identity(n.to_bytes(32, "big")) for n in range(1, WORKERS + 1)]
        self.askers = [Customer(name=n + 1) for n in range(ASKERS)]
        self.earned, self.kinds, self.worst = Counter(), Counter(), Counter()
        self.spent = Counter()
        for number, desk in enumerate(self.desks):
            for asker in self.askers[number::MINTS]:
                desk.open_in(asker)
            for at, worker in enumerate(self.workers):
                desk.open_out(self.lane(number, at), worker=worker)

    def lane(self, mint, worker):
        return bytes([mint, worker]) * 16

    def pass_time(self, seconds):
        for desk in self.desks:
            desk.now += seconds
            desk.call("expire")

    def run(self):
        for number in range(ASKS):
            if number % 10 == 0:
                self.pass_time(WEEK / ASKS * 10)
            self.ask(self.random.randrange(ASKERS), KINDS[number % len(KINDS)])
        self.pass_time(3 * 3_600)

    def ask(self, number, kind):
        desk, asker = self.desks[number % MINTS], self.askers[number]
        keysets = {k.epoch: k for k in self.keysets(desk)}
        amount = Nano(self.random.randrange(1 << 14, 1 << 17))
        keyset = next((k for k in keysets.values() if self.holds(asker, k) >= amount), None)
        if keyset is None:
            keyset = desk.stock(asker)
        at = self.random.randrange(WORKERS)
        session = asker.spend(keyset, amount, self.workers[at], now=desk.now, ticks=TICKS)
        lock = Lock(session.spend.encode(), self.lane(number % MINTS, at))
        assert isinstance(desk.call("lock", lock, self.workers[at].id), Locked)
        if kind == "double spender":
            self.spend_again(desk, asker, session, at)
        self.answer(desk, asker, session, at, keyset, kind)

    def keysets(self, desk):
        return [parse_keyset(signed, KEY.public) for signed in desk.call("keysets").keysets]

    def holds(self, asker, keyset):
        return worth(coin.j for coin in asker.coins if coin.epoch == keyset.epoch)

    def spend_again(self, desk, asker, session, at):
        """The same coins to another worker, which asks its mint before it works."""
        other = (at + 1) % WORKERS
        terms = session.spend.terms
        forged = session.spend.encode().replace(terms.payee, self.workers[other].id)
        reply = desk.call("lock", Lock(forged, None), self.workers[other].id)
        assert isinstance(reply, Err)
        assert reply.code in (Code.SPENT, Code.BAD_AUTH)

    def answer(self, desk, asker, session, at, keyset, kind):
        worked = self.random.randrange(TICKS)
        revealed = {"silent asker": worked, "silent worker": worked + 1}.get(kind, worked + 1)
        worked += kind == "silent asker"  # one tick's work that nobody pays for
        settled = {"greedy worker": revealed, "silent worker": 0}.get(kind, min(worked, revealed))
        if settled:
            reply = desk.call("settle", session.settle(settled, final=True), self.workers[at].id)
            assert isinstance(reply, Settled)
        else:
            self.pass_time(session.spend.terms.expiry - desk.now + 200)
        reply = desk.call("change", Change(session.spend.lock_id, session.secret))
        assert isinstance(reply, Changed)
        before = asker.worth()
        asker.changed(keyset, session, reply)
        tick, amount = session.spend.terms.tick, session.spend.amount
        rest = amount - tick * settled - (asker.worth() - before)
        assert reply.paid_ticks == settled
        assert rest < Nano(1 << LEAST)
        self.earned[desk, at] += (tick * settled + rest).value
        self.spent[asker.name] += (tick * settled + rest).value
        self.kinds[kind] += 1
        self.worst["asker"] = max(self.worst["asker"], settled - worked)
        if kind != "silent worker":  # it has itself to blame
            self.worst["worker"] = max(self.worst["worker"], worked - settled)


@pytest.mark.slow
def test_a_week_conserves_coins_to_the_nano():
    week = Week(1)
    week.run()
    for number, desk in enumerate(week.desks):
        sheet, askers = desk.sheet(), week.askers[number::MINTS]
        assert sheet.difference == 0
        assert sheet.locked == sheet.owed == sheet.expired == ZERO
        assert sheet.outstanding == sum((asker.worth() for asker in askers), ZERO)
        earned = sum(n for (at, _), n in week.earned.items() if at is desk)
        assert sheet.given == Nano(earned)
        bought = sheet.received - sheet.fees
        assert bought == sheet.outstanding + Nano(sum(week.spent[a.name] for a in askers))
    assert set(week.kinds) == set(KINDS)
    assert week.worst == {"asker": 1, "worker": 1}, "a tick, and no more"
