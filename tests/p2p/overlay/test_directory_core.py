"""Directories of servers and clients together: one list for everybody, whoever lies."""

from collections import Counter
from random import Random

import pytest

from p2p import codec, defaults
from p2p.identity import Identity
from p2p.overlay import advert as adverts
from p2p.overlay import bodies
from p2p.overlay.advert import Anchors, Role
from p2p.overlay.bodies import Refusal
from p2p.overlay.directory_core import (
    Contradiction,
    DirectoryChanged,
    Joined,
    Published,
    SayAgain,
    Split,
)
from p2p.overlay.doorbell import Doorbell, Seen
from p2p.overlay.pulse import Kind, PulseChain
from p2p.overlay.snapshot import Snapshot
from p2p.wire import Endpoint
from tests.p2p.overlay.borough import SERVER, Borough, Lies

WORKER = Role.WORKER | Role.DIALABLE


@pytest.fixture(autouse=True)
def free_work(monkeypatch):
    monkeypatch.setattr(adverts, "is_work", lambda public, day, nonce: True)


def begun(count=8, **settings):
    """A network whose servers have frozen their first whole list."""
    borough = Borough(**settings)
    many = borough.servers(count)
    borough.run_to_epoch()
    borough.run_to_epoch(1.0)
    return borough, many


def roots(citizens):
    return {one.listing.status().root for one in citizens}


# --- one list for everybody ---


def test_servers_freeze_one_list_and_clients_have_it():
    borough, many = begun()
    assert len(roots(many)) == 1
    client = borough.client()
    assert client.listing.status().count == 0
    borough.run(5.0)
    assert roots([client]) == roots(many)
    status = client.listing.status()
    assert (status.count, status.agreement) == (8, 1.0)
    assert status.epoch == borough.calendar.number(borough.now)
    assert len(client.saw(Joined)) == 1
    assert client.saw(DirectoryChanged)


def test_each_epoch_everybody_has_its_list():
    borough, many = begun()
    client = borough.client()
    for number in range(3):
        borough.publish(many[number], crowd=number)
        borough.run_to_epoch(borough.calendar.window + 10.0)
        assert len(roots([*many, client])) == 1
        assert client.listing.find(many[number].id).advert.fields.crowd == number
        assert client.listing.status().epoch == borough.calendar.number(borough.now)


def test_a_client_fetches_at_once_when_it_needs_the_list():
    borough, _ = begun()
    client = borough.client()
    borough.run_to_epoch()
    before = client.listing.status().epoch
    client.do(lambda core, now: core.use(now))
    borough.run(3.0)
    assert client.listing.status().epoch == before + 1


def test_who_leaves_or_expires_vanishes():
    borough, many = begun(dev=True, unreached=0.0)
    client = borough.client()
    ending = borough.settle(50)
    borough.publish(ending, roles=WORKER, life=25)
    borough.run_to_epoch(3.0)
    borough.publish(many[7], roles=Role(0), onion=None)
    assert client.listing.find(ending.id).advert.roles == WORKER
    assert client.listing.find(many[7].id) is not None
    borough.run_to_epoch(3.0)
    assert client.listing.find(many[7].id) is None
    assert client.core.kept()
    borough.run(20.0)
    assert client.listing.find(ending.id) is None
    assert len(roots([*many[:7], client])) == 1


def share_of_the_commonest(borough, servers, number):
    found = Counter(one.roots.get(number) for one in servers if one.up)
    return found.most_common(1)[0][1] / found.total()


def freeze_under_churn(count, epochs, loss, churn, seed=1):
    """The share of servers that have the commonest list a minute into each epoch."""
    borough, many = begun(count, loss=loss, seed=seed)
    draw = borough.entropy.fork("churn")
    shares = []

    def back(place):
        many[place] = borough.restart(many[place])

    def publish(place):
        if many[place].up:
            borough.publish(many[place])

    for _ in range(epochs):
        for _ in range(int(churn * count)):
            place = 3 + draw.below(count - 3)
            when = borough.now + 500 * draw.uniform()
            borough.world.at(when, lambda place=place: many[place].crash())
            borough.world.at(when + 20 + 80 * draw.uniform(), lambda place=place: back(place))
        for _ in range(count // 5):
            place, when = draw.below(count), borough.now + 590 * draw.uniform()
            borough.world.at(
                when, lambda place=place: many[place].up and borough.publish(many[place])
            )
        borough.run_to_epoch(60.0)
        shares.append(share_of_the_commonest(borough, many, borough.calendar.number(borough.now)))
    return shares


def test_one_list_is_frozen_under_loss_and_churn():
    shares = freeze_under_churn(30, epochs=3, loss=0.05, churn=0.1)
    assert min(shares) >= 0.97
    assert sum(shares) / len(shares) >= 0.99


@pytest.mark.slow
def test_one_list_is_frozen_by_a_thousand_under_loss_and_churn():
    shares = freeze_under_churn(1_000, epochs=4, loss=0.05, churn=0.3)
    assert sum(shares) / len(shares) >= 0.99


# --- who was not there ---


def test_a_late_joiner_and_one_back_from_sleep_end_with_the_list_of_all():
    borough, many = begun(10)
    client = borough.client()
    borough.run(5.0)
    sleeper = many[5]
    sleeper.sleep()
    client.sleep()
    for number in range(4):
        borough.publish(many[number], crowd=number)
        borough.run_to_epoch()
    borough.run(100.0)
    sleeper.wake()
    client.wake()
    late = borough.settle(70).start()
    borough.meet(late)
    borough.publish(late)
    borough.run(10.0)
    assert len(roots([*many, late, client])) == 1
    borough.publish(many[0], crowd=9)
    borough.run_to_epoch(5.0)
    assert len(roots([*many, late])) == 1
    assert late.statistics.frozen == 1


def test_a_server_that_crashed_has_its_adverts_from_its_store():
    borough, many = begun(6)
    kept = many[5].core.kept()
    assert len(kept) == 6
    many[5].crash()
    again = borough.settle(5, life=1)
    again.do(lambda core, now: core.restore(now, [*kept, (borough.now + 10**9, b"junk")]))
    assert again.core.sizes()["adverts"] == 6
    borough.run_to_epoch()
    again.start()
    borough.run(5.0)
    assert roots([again]) == roots(many[:5])


def test_who_ran_before_needs_no_first_server_to_join_again():
    borough, many = begun(9)
    kept = many[8].core.kept()
    for one in [*many[:3], many[8]]:
        one.crash()
    again = borough.settle(8, life=1)
    again.do(lambda core, now: core.restore(now, kept))
    again.start()
    borough.run(60.0)
    assert roots([again]) == roots(many[3:8])
    assert again.listing.status().agreement == 1.0


def test_all_asleep_at_once_go_on_together():
    borough, many = begun(6)
    for one in many:
        one.sleep()
    borough.run(4 * 600.0)
    for one in many:
        one.wake()
    borough.run_to_epoch(60.0)
    assert len(roots(many)) == 1
    assert many[0].listing.status().count == 6


def test_a_server_that_most_others_contradict_takes_their_list():
    borough, many = begun(8)
    odd = many[7]
    borough.run_to_epoch()
    borough.run(1.0)
    fewer = Snapshot(odd.core._lists.newest().cut, odd.core._lists.newest().adverts[:5])
    odd.do(lambda core, now: (core._lists.adopt(now, fewer), core._use(now, fewer, 1.0)))
    assert roots([odd]) != roots(many[:7])
    borough.run(250.0)
    assert roots([odd]) == roots(many[:7])


def test_the_last_server_goes_on_alone():
    borough, many = begun(4)
    for one in many[1:]:
        one.crash()
    client = borough.client()
    borough.run_to_epoch(60.0)
    borough.publish(many[0], crowd=7)
    borough.run_to_epoch(60.0)
    assert many[0].listing.find(many[0].id).advert.fields.crowd == 7
    assert not client.saw(Joined)


# --- who lies ---


def private(borough, count, first=500):
    """Adverts that are shown to nobody but by liars."""
    made = []
    for number in range(first, first + count):
        buffer = borough.advert(borough.settle(number, serving=False))
        made.append(adverts.read(buffer, borough.now, borough.rules))
    return tuple(made)


def lying_fifth(count, seed=1):
    """Honest servers, and a quarter as many of one operator who does not say that they are his."""
    borough = Borough(seed=seed, loss=0.02, first=(0, 1, 100))
    honest = borough.servers(count)
    liars = [borough.settle(100 + number) for number in range(count // 4)]
    for number, liar in enumerate(liars):
        borough.meet(liar.start())
        borough.publish(liar, host=f"99.99.{number}.9")
    borough.run_to_epoch()
    borough.run_to_epoch(1.0)
    return borough, honest, liars


@pytest.mark.parametrize("kept_for", [(21_600.0, 43_200.0), (0.0, 0.0)])
def test_of_servers_that_withhold_and_invent_nothing_is_believed(kept_for, monkeypatch):
    monkeypatch.setattr("p2p.overlay.servers.KEPT_FOR", kept_for)
    borough, honest, liars = lying_fifth(16)
    inventions = private(borough, 12)
    victims = frozenset(one.id for one in honest[8:])
    for number, liar in enumerate(liars):
        shown = inventions[: 12 if number % 2 else 1]
        Lies(liar.core, victims if number % 3 else frozenset(), shown)
    clients = [borough.client(1_000 + number) for number in range(6)]
    everybody = {one.id for one in [*honest, *liars]}
    for _ in range(3):
        borough.publish(honest[12], crowd=3)
        borough.run_to_epoch(borough.calendar.window + 60.0)
        for client in clients:
            assert client.saw(Joined)
            assert client.ids() >= everybody
            assert client.ids() <= everybody
        assert len(roots(honest)) == 1
    asked = {peer for client in clients for peer, _ in client.asked_of}
    assert asked & {liar.id for liar in liars}


def test_what_is_released_late_stops_nobody():
    """New names, told to half of the servers each, in the moment of freezing."""
    borough, honest, _ = lying_fifth(12)
    clients = [borough.client(1_000 + number) for number in range(4)]
    everybody = {one.id for one in honest}
    for epoch in range(3):
        begin = borough.calendar.begin(borough.calendar.number(borough.now) + 1)
        borough.run(begin - 130.0 - borough.now)
        fresh = [borough.settle(600 + 10 * epoch + n, serving=False) for n in range(10)]
        buffers = [(one, borough.advert(one)) for one in fresh]
        borough.run(begin - 0.5 - borough.now)
        for number, (one, buffer) in enumerate(buffers):
            for place, other in enumerate(honest):
                if (place + number) % 2:
                    borough.hear(other, one, buffer)
        borough.run_to_epoch(borough.calendar.window + 60.0)
        for client in clients:
            assert client.ids() >= everybody
            assert not client.saw(Split)
        borough.run_to_epoch(borough.calendar.window + 60.0)
        assert all(client.ids() >= {one.id for one in fresh} for client in clients)
        assert len(roots(honest)) == 1


def test_a_split_is_told_once_and_the_last_list_serves_for_a_while(monkeypatch):
    monkeypatch.setattr(defaults, "STALE_EPOCHS", 3)
    borough, many = begun(5)
    others = [borough.settle(50 + number, serving=False) for number in range(20)]
    for one in others:
        borough.publish(one, roles=WORKER)
    borough.run_to_epoch()
    borough.run_to_epoch(1.0)
    client = borough.client()
    borough.run(5.0)
    for number, one in enumerate(many):
        Lies(one.core, frozenset(other.id for other in others[4 * number : 4 * number + 4]))
    borough.run_to_epoch(borough.calendar.window + 60.0)
    assert len(client.saw(Split)) == 1
    assert client.listing.status().count == 25
    assert not client.listing.is_stale(borough.now)
    borough.run(3 * 600.0)
    assert len(client.saw(Split)) == 1
    assert client.listing.is_stale(borough.now)
    assert client.statistics.splits > 3


def test_two_adverts_of_one_seq_are_told():
    borough, many = begun(4, unreached=0.0)
    twins = [borough.advert(many[3], seq=2**60, crowd=crowd) for crowd in (1, 2)]
    for twin in twins:
        borough.publish(many[3], twin)
    borough.run(90.0)
    (contradiction,) = many[0].saw(Contradiction)
    assert sorted(contradiction.evidence) == sorted(twins)


# --- what is heard, and how often ---


def test_nodes_speak_for_themselves_and_not_too_often():
    borough, many = begun(4)
    one, other = many[1], many[2]
    buffer = borough.advert(one, crowd=1)
    said = []

    def hear(buffer, who):
        public = who.identity.public
        other.do(lambda core, now: said.append(core.offer(now, buffer, public)))

    hear(buffer, many[3])
    hear(buffer, one)
    hear(buffer, one)
    hear(b"junk", one)
    for number in range(5):
        borough.run(0.01)
        hear(borough.advert(one, crowd=number), one)
    assert said == [False, True, False, False, True, True, False, False, False]
    assert other.statistics.refused == 5


def test_newcomers_come_so_many_a_second():
    borough, many = begun(4)
    strangers = [borough.settle(number, serving=False) for number in range(700, 850)]
    taken = []
    for one in strangers:
        buffer, public = borough.advert(one), one.identity.public
        many[0].do(lambda core, now, b=buffer, p=public: taken.append(core.offer(now, b, p)))
    assert taken == [True] * 100 + [False] * 50


def test_adverts_without_work_keep_no_newcomer_out(monkeypatch):
    borough, many = begun(4)
    honest, worthless = borough.settle(700, serving=False), range(701, 901)
    idle = {borough.settle(number, serving=False).identity.public for number in worthless}
    monkeypatch.setattr(adverts, "is_work", lambda public, day, nonce: public not in idle)
    taken = []
    for number in (*worthless, 700):
        one = borough.citizens[Identity(number.to_bytes(32, "big")).id]
        buffer, public = borough.advert(one), one.identity.public
        many[0].do(lambda core, now, b=buffer, p=public: taken.append(core.offer(now, b, p)))
    assert taken == [False] * len(worthless) + [True]
    assert honest.id == one.id


def test_one_stranger_that_asks_again_uses_up_no_others_turn(monkeypatch):
    borough, (server, *_) = begun(4)
    fetched = []

    async def fetch(asking, peer, *_):
        fetched.append(peer)

    monkeypatch.setattr("p2p.overlay.repair.fetch", fetch)
    call = bodies.pack_call(bodies.Root(borough.calendar.compared(borough.now), b"r" * 32))
    for name in (*[b"a" * 32] * 20, b"b" * 32):
        server.do(lambda core, now, name=name: core.call(now, name, call))
    assert fetched == [b"a" * 32] * 2 + [b"b" * 32]


def test_strangers_of_one_neighbourhood_use_up_no_others_turn(monkeypatch):
    borough, (server, *_) = begun(4)
    fetched = []

    async def fetch(asking, peer, *_):
        fetched.append(peer[:1])

    monkeypatch.setattr("p2p.overlay.repair.fetch", fetch)
    server.core._comparison._place = lambda peer: peer[:1]
    call = bodies.pack_call(bodies.Root(borough.calendar.compared(borough.now), b"r" * 32))
    for number in range(20):
        name = b"a%031d" % number
        server.do(lambda core, now, name=name: core.call(now, name, call))
    server.do(lambda core, now: core.call(now, b"b" * 32, call))
    assert fetched == [b"a"] * 2 + [b"b"]


def test_what_a_newcomer_says_is_heard_by_the_server_that_it_compares_with():
    borough, many = begun(5, dev=True)
    newcomer = borough.settle(50).start()
    buffer = borough.advert(newcomer)
    newcomer.do(lambda core, now: core.offer(now, buffer))
    borough.run_to_epoch(3.0)
    borough.run_to_epoch(3.0)
    assert all(one.listing.find(newcomer.id) is not None for one in many)
    assert len(roots([*many, newcomer])) == 1


def test_what_we_say_is_said_again_until_a_server_has_heard_it():
    borough, many = begun(5)
    worker = borough.settle(50, serving=False).start()
    buffer, public = borough.advert(worker, roles=WORKER), worker.identity.public
    worker.do(lambda core, now: core.say(now, 7, buffer))
    borough.run(0.9)
    assert not worker.saw(SayAgain)
    borough.run(9.1)
    again = worker.saw(SayAgain)
    assert len(again) == 3
    assert {event.advert for event in again} == {buffer}
    for one in many:
        one.do(lambda core, now: core.offer(now, buffer, public))
    borough.run(60.0)
    assert [event.seq for event in worker.saw(Published)] == [7]
    assert len(worker.saw(SayAgain)) == 3


@pytest.mark.parametrize(
    ("holding", "answering", "is_heard"),
    [
        ((0,), (0, 1, 2), False),
        ((2,), (0, 1, 2), False),
        ((0, 2), (0, 1, 2), True),
        ((1, 2), (0, 1, 2), True),
        ((0,), (0,), True),
        ((0,), (0, 1), False),
        ((), (0,), False),
        ((), (), False),
    ],
)
def test_one_server_alone_cannot_pretend_to_hold_what_we_say(holding, answering, is_heard):
    borough = Borough()
    many = borough.servers(3)
    worker = borough.settle(50, serving=False).start()
    buffer, public = borough.advert(worker, roles=WORKER), worker.identity.public
    for number in holding:
        many[number].do(lambda core, now: core.offer(now, buffer, public))
    for number in {0, 1, 2} - set(answering):
        many[number].sleep()
    worker.do(lambda core, now: core.say(now, 7, buffer))
    borough.run(10.0 if len(answering) == 3 else 60.0)
    assert bool(worker.saw(Published)) is is_heard
    assert bool(worker.saw(SayAgain)) is not is_heard


def test_of_two_adverts_only_the_newer_is_waited_for():
    borough, _ = begun(5)
    worker = borough.settle(50, serving=False).start()
    for seq in (7, 8):
        buffer = borough.advert(worker, roles=WORKER, seq=seq)
        worker.do(lambda core, now, seq=seq, buffer=buffer: core.say(now, seq, buffer))
        borough.run(1.01)
    borough.publish(worker, buffer)
    borough.run(60.0)
    assert [event.seq for event in worker.saw(Published)] == [8]


def test_where_there_is_nobody_else_what_is_said_is_published():
    borough = Borough(dev=True, first=(0,))
    alone = borough.settle(0).start()
    buffer = borough.advert(alone)
    alone.do(lambda core, now: core.say(now, 3, buffer))
    assert alone.saw(Published) == [Published(3)]


# --- what a client asks ---


@pytest.mark.parametrize("dev", [False, True])
def test_a_discreet_client_asks_no_mint_of_its_settings_while_others_answer(dev):
    borough, many = begun(6, dev=dev, unreached=0.0)
    mint = many[0]
    borough.publish(mint, roles=SERVER | Role.MINT)
    borough.run_to_epoch(3.0)
    borough.run_to_epoch(3.0)
    client, other = borough.client(discreet=True), borough.client(10_001)
    borough.run(borough.calendar.window + 60.0)
    for asker in (client, other):
        del asker.asked_of[:]
    for _ in range(3):
        borough.run_to_epoch(borough.calendar.window + 60.0)
        client.do(lambda core, now: core.use(now))
    assert client.asked_of
    assert mint.id not in {peer for peer, _ in client.asked_of}
    assert mint.id in {peer for peer, _ in other.asked_of} or dev
    for one in many[1:]:
        one.crash()
    for _ in range(3):
        borough.run_to_epoch(borough.calendar.window + 60.0)
    assert mint.id in {peer for peer, _ in client.asked_of}


def kinds(client):
    return Counter(type(bodies.read_call(body)) for _, body in client.asked_of)


def test_a_client_asks_three_servers_of_different_operators_and_keeps_to_them():
    borough, many = begun(12)
    client = borough.client()
    borough.run(5.0)
    first = {peer for peer, _ in client.asked_of}
    assert first == {server.peer for server in borough.first}
    for _ in range(3):
        del client.asked_of[:]
        borough.publish(many[7], crowd=7)
        borough.run_to_epoch(borough.calendar.window + 60.0)
        asked = kinds(client)
        assert {peer for peer, _ in client.asked_of} == first
        assert asked[bodies.Root] == 3
        assert (asked[bodies.Buckets], asked[bodies.List], asked[bodies.Get]) == (1, 1, 1)
        assert asked[bodies.Pull] == 0
    assert set(client.core.acquainted()) == first


def test_a_client_shows_no_root_and_answers_nothing():
    borough, many = begun(6)
    client = borough.client()
    borough.run_to_epoch(borough.calendar.window + 60.0)
    calls = [bodies.read_call(body) for _, body in client.asked_of]
    assert {call.own for call in calls if isinstance(call, bodies.Root)} == {bodies.NO_ROOT}
    body = bodies.pack_call(bodies.Root(5, bodies.NO_ROOT))
    assert client.core.call(borough.now, many[0].id, body) == bodies.pack_refusal(Refusal.REFUSED)


def test_servers_that_are_gone_are_replaced():
    borough, many = begun(12, unreached=0.0)
    client = borough.client()
    borough.run(5.0)
    for one in many[:2]:
        one.crash()
    borough.run_to_epoch(borough.calendar.window + 60.0)
    assert roots([client]) == roots(many[2:])
    del client.asked_of[:]
    borough.run_to_epoch(borough.calendar.window + 60.0)
    asked = {peer for peer, _ in client.asked_of}
    assert len(asked) == 3
    assert not asked & {one.id for one in many[:2]}


@pytest.mark.parametrize("body", [b"", b"\xc1", codec.pack([0]), codec.pack({"a": 1}), bytes(99)])
def test_junk_is_refused(body):
    borough, many = begun(4)
    answer = many[0].core.call(borough.now, many[1].id, body)
    assert answer == bodies.pack_refusal(Refusal.REFUSED)


def test_whatever_is_asked_is_answered():
    borough, many = begun(4)
    random = Random(3)
    number = borough.calendar.number(borough.now)
    cuts = [borough.calendar.cut(number - back) for back in range(4)]
    cuts.append(borough.calendar.compared(borough.now))
    good = [
        bodies.pack_call(call)
        for cut in cuts
        for call in (
            bodies.Root(cut, bytes(32)),
            bodies.Buckets(cut),
            bodies.List(cut, bytes(range(256))),
            bodies.Pull(cut, 0, 255),
            bodies.Pulses(0, 255),
            bodies.Get([bytes(16)] * 9),
        )
    ]
    for turn in range(2_000):
        body = bytearray(random.choice(good))
        for _ in range(random.randrange(3)):
            body[random.randrange(len(body))] = random.randrange(256)
        peer = random.randbytes(32) if turn % 2 else many[1].id
        answer = many[0].core.call(borough.now, peer, bytes(body[: random.randrange(1, 99)]))
        assert codec.unpack(answer, bodies.MAX_PULLED)[0] in (0, 1)
    many[0].seat.call(lambda now: None)
    borough.run(60.0)


def test_a_call_of_another_kind_is_unknown():
    borough, many = begun(4)
    answer = many[0].core.call(borough.now, many[1].id, codec.pack([99]))
    assert answer == bodies.pack_refusal(Refusal.UNKNOWN)


def test_calls_about_being_reached_go_to_the_doorbell():
    borough, many = begun(4)
    server, caller = many[0], many[1]
    ask = bodies.pack_call(bodies.Whoami())
    unknown = bodies.pack_refusal(Refusal.UNKNOWN)
    assert server.core.call(borough.now, caller.id, ask) == unknown
    address = bodies.Address(0, Endpoint("9.8.7.6", 4001))
    seen = Seen(caller.identity.public, address)
    bell = Doorbell(
        borough.rules,
        borough.entropy,
        seen={caller.id: seen}.get,
        servers=server.core.all_servers,
        said=server.core.said_where,
    )
    server.core.attach(bell)
    assert bodies.read_seen(server.core.call(borough.now, caller.id, ask)) == address
    probe = bodies.pack_call(bodies.Probe(bytes(16), address))
    bodies.read_done(server.core.call(borough.now, caller.id, probe))
    (send,) = bell.drain()
    assert send.peer in [many[2].id, many[3].id]
    assert set(server.core.servers()) <= set(server.core.all_servers())


# --- pulses ---


def beating(borough, citizen, kind=Kind.OPEN):
    """Advertise with anchors; returns how to give the pulse of a moment to some books."""
    seq = int(borough.now * 1_000)
    chains = {k: PulseChain(citizen.identity, seq, k) for k in Kind}
    borough.publish(citizen, seq=seq, anchors=Anchors(*(chains[k].anchor for k in Kind)))
    issued = borough.calendar.number(borough.now)

    def beat(books, kind=Kind.OPEN):
        pulse = chains[kind].pulse(borough.calendar.number(borough.now) - issued)
        for book in books:
            book.take(borough.now, citizen.id, [pulse])

    return beat


def test_a_client_has_pulses_from_servers_and_not_from_one_that_withholds_them():
    borough, many = begun(5, unreached=0.0)
    beats = [beating(borough, one) for one in many]
    for _ in range(3):
        borough.run_to_epoch(1.0)
        books = [one.book for one in many[1:]]
        for beat in beats[:4]:
            beat(books)
        beats[3](books, Kind.BUSY)
    client = borough.client()
    borough.run(20.0)
    found = {one.number: client.listing.find(one.id) for one in many}
    assert [found[number].live for number in range(5)] == [True] * 4 + [False]
    assert [found[number].open for number in range(4)] == [True] * 3 + [False]
    assert client.listing.status().live == 4


# --- a network that people watch ---


def test_in_a_dev_network_one_server_is_enough_and_a_client_has_its_list_at_once():
    borough = Borough(dev=True, first=(0,), unreached=0.0)
    (server,) = borough.servers(1)
    borough.run_to_epoch()
    borough.run_to_epoch(1.0)
    client = borough.client()
    borough.run(1.0)
    assert client.ids() == {server.id}


def test_in_a_dev_network_a_newcomer_is_in_use_within_two_epochs():
    borough, _ = begun(5, dev=True, unreached=0.02, first=(0,))
    client = borough.client()
    borough.run(3.0)
    for offset in (0.0, 3.3, 7.7, 8.2):
        borough.run_to_epoch(offset)
        worker = borough.settle(200 + int(10 * offset), serving=False)
        borough.publish(worker, roles=WORKER)
        since = borough.now
        while client.listing.find(worker.id) is None:
            borough.run(0.1)
        assert borough.now - since <= 12.6


def test_in_a_dev_network_the_first_list_is_there_after_an_epoch():
    borough = Borough(dev=True, first=(0,), unreached=0.0)
    borough.run(4.0)
    many = borough.servers(4)
    client = borough.client()
    borough.run_to_epoch(1.5)
    assert client.ids() == {one.id for one in many}


def test_serving_can_begin_and_end():
    borough, many = begun(5)
    client = borough.client()
    borough.run(5.0)
    client.do(lambda core, now: core.serve(now, serve=True))
    borough.run_to_epoch(60.0)
    assert roots([client]) == roots(many)
    assert client.statistics.frozen == 1
    client.do(lambda core, now: core.serve(now, serve=False))
    borough.run_to_epoch(400.0)
    assert client.statistics.frozen == 1
    assert roots([client]) == roots(many)


def test_tables_are_bounded_by_what_there_is():
    borough, many = begun(8, loss=0.05)
    for _ in range(4):
        borough.publish(many[5], crowd=1)
        borough.run_to_epoch(350.0)
    for one in many:
        sizes = one.core.sizes()
        assert sizes["adverts"] == 8
        assert sizes["advert_bodies"] <= 24
        assert sizes["frozen_lists"] <= 3
        assert sizes["list_views"] <= 4
        assert sizes["directory_findings"] == sizes["directory_events"] == 0
