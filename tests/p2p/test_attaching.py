"""Relays keep links to who cannot be dialled: which are chosen, told of, lost and replaced."""

from types import SimpleNamespace

import pytest

from p2p.attaching import LOST, MOST, OFFERS, SHUNNED, Attached, Attaching
from p2p.entropy import seeded
from p2p.overlay.advert import Role
from p2p.overlay.epochs import OPEN

ME = b"m" * 32


def relay(number, group=None, *, roles=OFFERS, live=True, addresses=("somewhere",)):
    return SimpleNamespace(
        id=bytes([number]) * 32,
        advert=SimpleNamespace(roles=roles, addresses=addresses),
        group=group or bytes([number]),
        live=live,
    )


class Quay:
    """A node that wants relays, and what becomes of what it seeks."""

    def __init__(self, *relays):
        self.now = 1_800_000_000.0
        self.relays, self.linked, self.dead = list(relays), set(), set()
        self.sought, self.told = [], []
        self.attaching = Attaching(
            ME, self, seeded(1), calendar=OPEN, linked=lambda peer: peer in self.linked
        )

    def usable(self, role):
        return self.relays

    def run(self, seconds):
        end = self.now + seconds
        while (due := self.attaching.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.attaching.handle_timer(self.now)
            self.settle()
        self.now = end

    def settle(self):
        while outputs := self.attaching.drain():
            for output in outputs:
                if isinstance(output, Attached):
                    self.told.append(output.relays)
                    continue
                self.sought.append(output.relay)
                if output.relay not in self.dead:
                    self.linked.add(output.relay)
                    self.attaching.link_up(self.now, output.relay)

    def lose(self, peer):
        self.linked.discard(peer)
        self.dead.add(peer)
        self.attaching.link_down(self.now, peer)


def wanting(*relays):
    quay = Quay(*relays)
    quay.attaching.want(quay.now, True)
    quay.run(0.0)
    return quay


def test_three_relays_are_sought_and_told_of_once_they_hold():
    quay = wanting(*map(relay, range(6)))
    assert len(quay.sought) == len(set(quay.sought)) == MOST
    assert set(quay.told[-1]) == set(quay.sought)
    quay.run(600.0)
    assert len(quay.sought) == MOST


def test_who_can_be_dialled_wants_none():
    quay = Quay(*map(relay, range(6)))
    quay.attaching.want(quay.now, False)
    quay.run(600.0)
    assert quay.sought == quay.told == []
    assert quay.attaching.next_deadline() is None


def test_relays_are_let_go_once_others_can_dial_us():
    quay = wanting(*map(relay, range(3)))
    quay.attaching.want(quay.now, False)
    quay.settle()
    assert quay.told[-1] == quay.attaching.chosen() == ()


def test_operators_differ_where_there_are_so_many():
    crowd = [relay(number, b"one") for number in range(20)]
    quay = wanting(*crowd, relay(30), relay(31))
    assert {relay(30).id, relay(31).id} < set(quay.told[-1])
    assert len(wanting(*crowd).told[-1]) == MOST


@pytest.mark.parametrize(
    "unfit",
    [
        relay(9, roles=Role.RELAY | Role.DIALABLE),
        relay(9, roles=Role.RELAY | Role.ATTACHMENT),
        relay(9, addresses=()),
        SimpleNamespace(**{**vars(relay(9)), "id": ME}),
    ],
)
def test_who_does_not_offer_it_is_not_sought(unfit):
    assert wanting(unfit).sought == []


def test_who_gives_a_sign_of_life_comes_first():
    quay = wanting(*(relay(n, live=False) for n in range(9)), *map(relay, (20, 21, 22)))
    assert set(quay.told[-1]) == {relay(n).id for n in (20, 21, 22)}


def test_a_link_that_is_there_already_is_kept():
    quay = Quay(*map(relay, range(3)))
    quay.linked = {relay(n).id for n in range(3)}
    quay.attaching.want(quay.now, True)
    quay.run(0.0)
    assert quay.sought == []
    assert len(quay.told[-1]) == MOST


def test_a_lost_relay_may_come_back_within_a_minute():
    quay = wanting(*map(relay, range(6)))
    told = quay.told[-1]
    quay.lose(told[0])
    quay.run(LOST / 3)
    quay.dead.clear()
    quay.run(2 * LOST)
    assert quay.told[-1] == told


def test_a_relay_lost_for_a_minute_gives_its_place_to_another():
    quay = wanting(*map(relay, range(6)))
    lost, *others = quay.told[-1]
    quay.lose(lost)
    quay.run(2 * LOST)
    assert lost not in quay.told[-1]
    assert set(others) < set(quay.told[-1])
    assert len(quay.told[-1]) == MOST


def test_a_relay_that_does_not_keep_the_link_is_replaced_at_once():
    quay = wanting(*map(relay, range(6)))
    refusing = quay.told[-1][1]
    quay.attaching.refused(quay.now, refusing)
    quay.run(0.0)
    assert refusing not in quay.told[-1]
    assert len(quay.told[-1]) == MOST


def test_one_that_was_lost_is_tried_again_after_a_while_if_there_is_no_other():
    quay = wanting(relay(1))
    quay.lose(relay(1).id)
    quay.run(2 * LOST)
    assert quay.told[-1] == ()
    quay.dead.clear()
    quay.run(SHUNNED + LOST)
    assert quay.told[-1] == (relay(1).id,)


def test_a_longer_list_fills_places_at_once():
    quay = wanting()
    assert quay.sought == []
    quay.relays = [relay(1)]
    quay.attaching.look(quay.now)
    quay.run(0.0)
    assert quay.sought == [relay(1).id]


def test_what_is_remembered_is_bounded():
    quay = wanting(*map(relay, range(200)))
    for _ in range(40):
        quay.lose(quay.attaching.chosen()[0])
        quay.run(2 * LOST)
    sizes = quay.attaching.sizes()
    assert sizes["attach_places"] == MOST
    assert sizes["attach_shunned"] <= SHUNNED / LOST * MOST
