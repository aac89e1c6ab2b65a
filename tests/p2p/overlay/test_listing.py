"""The list as a node uses it: whom to ask, whom to build circuits through."""

from dataclasses import replace

import pytest

from p2p.overlay import advert as adverts
from p2p.overlay.advert import Anchors, Capacity, Role, Rules
from p2p.overlay.diary import Diary
from p2p.overlay.epochs import DEV, OPEN
from p2p.overlay.fields import LOAD_FULL
from p2p.overlay.groups import Proven, nobody
from p2p.overlay.listing import Listing
from p2p.overlay.liveness import PulseBook
from p2p.overlay.pulse import Kind, PulseChain
from p2p.overlay.snapshot import Snapshot
from p2p.wire import Endpoint

START = 1_800_000_000
NOW = START + 1.0
OPEN_RULES = Rules(network=7)
SELF = 999


class Shown:
    """A listing of adverts, and what it was made with."""

    def __init__(self, nodes, buffers=(), *, rules=None, registry=nobody, own=SELF):
        self.rules = rules or nodes.rules
        calendar = DEV if self.rules.dev else OPEN
        self.book, self.diary, self.known = PulseBook(calendar.epoch), Diary(), {}
        self.listing = Listing(
            self.rules,
            calendar,
            nodes.id(own),
            book=self.book,
            diary=self.diary,
            registry=registry,
            newest=self.known.get,
        )
        if buffers:
            self.use(*buffers)

    def read(self, buffer):
        return adverts.read(buffer, NOW, self.rules)

    def use(self, *buffers, now=NOW, agreement=1.0):
        self.listing.use(now, Snapshot(START, map(self.read, buffers)), agreement)


@pytest.fixture
def free_work(monkeypatch):
    monkeypatch.setattr(adverts, "is_work", lambda public, day, nonce: True)


def test_usable_means_role_and_model(nodes):
    shown = Shown(nodes, [nodes.advert(1), nodes.advert(2, "worker"), nodes.advert(3, "worker")])
    listing = shown.listing
    assert [entry.id for entry in listing.usable(Role.RELAY)] == [nodes.id(1)]
    workers = sorted([nodes.id(2), nodes.id(3)])
    assert [entry.id for entry in listing.usable(Role.WORKER)] == workers
    assert [entry.id for entry in listing.usable(Role.WORKER, b"m" * 32)] == workers
    assert listing.usable(Role.WORKER, b"x" * 32) == []
    assert listing.usable(Role.RELAY | Role.WORKER) == []
    assert listing.find(nodes.id(2)).advert.models[0].identity == b"m" * 32
    assert listing.find(nodes.id(9)) is None


def test_this_node_is_listed_but_never_chosen(nodes):
    listing = Shown(nodes, [nodes.advert(1), nodes.advert(2)], own=1).listing
    assert [entry.id for entry in listing.usable(Role.RELAY)] == [nodes.id(2)]
    assert [view.id for view in listing.relays()] == [nodes.id(2)]
    assert listing.find(nodes.id(1)) is not None
    assert listing.status().count == 2


def test_nothing_is_listed_before_the_first_list(nodes):
    listing = Shown(nodes).listing
    listing.pass_time(NOW)
    status = listing.status()
    assert (status.count, status.live, status.age) == (0, 0, None)
    assert status.epoch == DEV.number(NOW)
    assert not listing.is_stale(NOW + 10**9)
    assert listing.relays() == []
    assert listing.next_deadline() is None


def test_what_runs_out_is_left_out_at_its_time(nodes):
    shown = Shown(nodes, [nodes.advert(1, life=20), nodes.advert(2, life=60)])
    listing, version = shown.listing, shown.listing.version
    assert listing.next_deadline() == START + 20
    assert not listing.pass_time(START + 19.9)
    assert len(listing.relays()) == 2
    assert listing.pass_time(START + 20)
    assert listing.version == version + 1
    assert [view.id for view in listing.relays()] == [nodes.id(2)]
    assert (listing.find(nodes.id(1)), listing.relay(nodes.id(1))) == (None, None)
    assert [entry.id for entry in listing.usable(Role.RELAY)] == [nodes.id(2)]
    assert listing.status().count == 2
    assert listing.next_deadline() == START + 60


def test_the_same_list_again_is_no_change(nodes):
    shown = Shown(nodes, [nodes.advert(1)])
    version = shown.listing.version
    shown.use(nodes.advert(1), now=NOW + 10.0)
    assert shown.listing.version == version
    assert shown.listing.status().age == 0.0
    shown.use(nodes.advert(1), nodes.advert(2))
    assert shown.listing.version == version + 1


def test_a_list_is_stale_after_three_hours_without_another(nodes):
    listing = Shown(nodes, [nodes.advert(1)]).listing
    assert not listing.is_stale(NOW + 180.0)
    assert listing.is_stale(NOW + 180.1)


def test_agreement_is_shown(nodes):
    shown = Shown(nodes)
    shown.use(nodes.advert(1), agreement=2 / 3)
    assert shown.listing.status().agreement == 2 / 3
    shown.listing.agree(0.5)
    assert shown.listing.status().agreement == 0.5


# --- who is there ---


def test_without_pulses_an_advert_is_a_sign_of_life_for_two_epochs(nodes):
    listing = Shown(nodes, [nodes.advert(1, life=100)]).listing
    for now, live in ((START + 9.9, True), (START + 19.9, True), (START + 20.0, False)):
        listing.pass_time(now)
        assert listing.find(nodes.id(1)).live == live
        assert listing.status().live == live


def test_pulses_say_who_is_there_and_who_takes_work(nodes):
    chains = {kind: PulseChain(nodes.identity(1), 5, kind) for kind in Kind}
    anchors = Anchors(chains[Kind.OPEN].anchor, chains[Kind.BUSY].anchor)
    shown = Shown(nodes, [nodes.advert(1, life=200, anchors=anchors)])
    shown.book.expect(nodes.id(1), START, anchors.open + anchors.busy)

    def seen(now):
        shown.listing.pass_time(now)
        shown.listing.feel(now, steadily=True)
        entry = shown.listing.find(nodes.id(1))
        return entry.live, entry.open

    assert seen(START + 25.0) == (False, True)
    shown.book.take(START + 25.0, b"p" * 32, [chains[Kind.OPEN].pulse(2)])
    assert seen(START + 25.0) == (True, True)
    shown.book.take(START + 26.0, b"p" * 32, [chains[Kind.BUSY].pulse(2)])
    assert seen(START + 39.9) == (True, False)
    assert seen(START + 40.0) == (False, True)


def test_while_no_pulses_are_heard_all_are_taken_to_be_there(nodes):
    anchors = Anchors(bytes(16), bytes(16))
    listing = Shown(nodes, [nodes.advert(1, life=900, anchors=anchors)]).listing
    listing.feel(START)
    for now, live in ((START + 19.0, False), (START + 20.1, True), (START + 500.0, True)):
        listing.pass_time(now)
        assert listing.find(nodes.id(1)).live == live
        assert [view.live for view in listing.relays()] == [live]


def test_who_issued_as_full_is_not_open(nodes):
    listing = Shown(nodes, [nodes.advert(1, capacity=Capacity(3, LOAD_FULL))]).listing
    assert not listing.find(nodes.id(1)).open


# --- circuits ---


def test_views_are_what_circuits_need(nodes):
    shown = Shown(nodes, [nodes.advert(1), nodes.advert(2, "worker")])
    view = shown.listing.relay(nodes.id(1))
    assert view.onion_key == (1).to_bytes(32, "big")
    assert (view.operator, view.subnet) == (nodes.id(1), b"")
    assert view.roles == Role.RELAY | Role.DIALABLE | Role.DIRECTORY
    assert shown.listing.relay(nodes.id(2)).roles == Role.WORKER | Role.DIALABLE
    assert [view.id for view in shown.listing.relays()] == [nodes.id(1)]


def test_stable_is_five_days_of_seven(nodes):
    shown = Shown(nodes, [nodes.advert(1), nodes.advert(2)])
    shown.diary.learn(NOW, {nodes.id(1): 5, nodes.id(2): 4})
    stable = {view.id: view.stable for view in shown.listing.relays()}
    assert stable == {nodes.id(1): True, nodes.id(2): False}
    assert shown.listing.find(nodes.id(2)).days == 4


def test_who_asks_for_a_circuit_may_have_a_newer_list(nodes):
    shown = Shown(nodes, [nodes.advert(1)])
    for number, kind in ((5, "worker"), (6, "left")):
        shown.known[nodes.id(number)] = shown.read(nodes.advert(number, kind))
    assert shown.listing.relay(nodes.id(5)).id == nodes.id(5)
    assert shown.listing.relay(nodes.id(6)) is None
    assert shown.listing.find(nodes.id(5)) is None
    assert nodes.id(5) not in [view.id for view in shown.listing.relays()]


# --- groups ---


def public(nodes, number, host, **changes):
    return nodes.advert(
        number,
        rules=OPEN_RULES,
        addresses=(Endpoint(host, 4001),),
        work=b"12345678",
        **changes,
    )


def group(shown, nodes, number):
    return shown.listing.find(nodes.id(number)).group


def test_in_a_dev_network_everybody_is_their_own_group(nodes):
    shown = Shown(nodes, [nodes.advert(1, operator=b"o" * 32), nodes.advert(2)])
    assert [group(shown, nodes, n) for n in (1, 2)] == [nodes.id(1), nodes.id(2)]


def test_a_claimed_operator_counts_only_if_it_is_proven(nodes, free_work):
    def registry(advert):
        proven = advert.fields.operator == b"p" * 32
        return Proven(b"p" * 32, 1) if proven else None

    buffers = [
        public(nodes, 1, "8.8.1.1", operator=b"p" * 32),
        public(nodes, 2, "8.8.2.2", operator=b"c" * 32),
        public(nodes, 3, "8.8.3.3"),
        public(nodes, 4, "2001:4860::1"),
    ]
    shown = Shown(nodes, buffers, rules=OPEN_RULES, registry=registry)
    groups = [group(shown, nodes, number) for number in (1, 2, 3, 4)]
    assert groups == [b"p" * 32, b"\x08\x08", b"\x08\x08", b"\x20\x01\x48\x60"]
    assert shown.listing.relay(nodes.id(2)).subnet == b"\x08\x08"


def test_who_cannot_be_dialled_is_of_the_group_of_its_first_attachment(nodes, free_work):
    relay = public(nodes, 1, "8.8.1.1")
    fields = nodes.fields(2, "worker", addresses=(), attachments=(nodes.id(1),), work=b"12345678")
    attached = adverts.build(nodes.identity(2), replace(fields, roles=Role.WORKER), NOW, OPEN_RULES)
    lost = replace(fields, roles=Role.WORKER, attachments=(b"?" * 32,))
    other = adverts.build(nodes.identity(3), lost, NOW, OPEN_RULES)
    shown = Shown(nodes, [relay, attached, other], rules=OPEN_RULES)
    assert group(shown, nodes, 2) == b"\x08\x08"
    assert group(shown, nodes, 3) == b"?" * 32
    assert shown.listing.relay(nodes.id(2)).attachments == (nodes.id(1),)
