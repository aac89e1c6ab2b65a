"""Discovery: how members find each other, who is left out, and what it costs."""

from dataclasses import replace

import pytest

from p2p import tl
from p2p.dht import value as records
from p2p.errors import Timeout
from p2p.identity import Identity
from p2p.overlay import strangers
from p2p.overlay.core import Dropped
from p2p.overlay.membership import Fate
from p2p.overlay.settings import DEV
from p2p.ton import OverlayGetRandomPeers, OverlayNodes, OverlayQuery
from tests.p2p.overlay.village import Directory, Village


def everybody_knows_everybody(villagers):
    return all(len(one.core.members) == len(villagers) - 1 for one in villagers)


def ask(villager, other, *nodes):
    """Ask `other` for members as `villager`, naming these nodes."""
    villager.seat.learn(other.identity.public, other.seat.addresses)
    question = OverlayGetRandomPeers(OverlayNodes(nodes))
    payload = tl.pack(OverlayQuery(other.core.overlay)) + tl.pack(question)
    return villager.seat.start(villager.seat.query(other.id, payload, timeout=5.0))


def record_of(identity, village, overlay):
    return records.sign_member(identity, overlay, int(village.now))


def gone(village):
    """A node that can be sent to, and does not answer."""
    villager = village.settle_one()
    villager.seat.crash()
    return villager


# --- who finds whom ---


def test_members_find_each_other_through_one_of_them():
    village = Village()
    village.settle_many(8, bootstraps=1)
    village.run(5)
    assert everybody_knows_everybody(village.villagers)


def test_a_dev_network_has_met_within_two_seconds():
    village = Village(settings=DEV, delay=0.001)
    village.settle_many(8, bootstraps=1)
    village.run(2)
    assert everybody_knows_everybody(village.villagers)


def test_who_starts_before_its_bootstrap_node_finds_it_when_it_comes():
    village = Village(settings=DEV)
    early, late = village.settle_one(), village.settle_one()
    early.do(lambda core, now: core.join(now, [late.id], serve=True))
    late.seat.crash()
    village.run(20)
    late = village.settle_one(1)
    late.do(lambda core, now: core.join(now, [], serve=True))
    village.run(3)
    assert early.core.members == [late.id]
    assert late.core.members == [early.id]


def test_members_find_each_other_in_the_dht_without_bootstrap_nodes():
    village, directory = Village(), Directory()
    many = [village.settle_one(records=directory) for _ in range(6)]
    for one in many:
        one.do(lambda core, now: core.join(now, [], serve=True))
    village.run(15)
    assert everybody_knows_everybody(many)
    assert set(directory.records) == {one.id for one in many}


def test_the_dht_is_asked_as_often_as_the_specification_says():
    village, directory = Village(), Directory()
    lonely = village.settle_one(records=directory)
    lonely.do(lambda core, now: core.join(now, [], serve=True))
    village.run(600)
    assert 60 <= directory.found <= 101
    assert 6 <= directory.stored <= 11


def test_a_dht_that_is_down_is_no_end():
    village, directory = Village(), Directory()
    directory.down = True
    one, other = (village.settle_one(records=directory) for _ in range(2))
    for villager in (one, other):
        villager.do(lambda core, now: core.join(now, [], serve=True))
    village.run(30)
    assert one.core.members == []
    directory.down = False
    village.run(20)
    assert one.core.members == [other.id]


# --- who counts ---


def test_a_stranger_that_does_not_answer_is_never_a_member_nor_named_to_others():
    village = Village()
    many = village.settle_many(3)
    village.run(5)
    dead = gone(village)
    ask(many[0], many[1], record_of(dead.identity, village, many[1].core.overlay))
    village.run(1)
    assert many[1].core.sizes()["overlay_strangers"] == 1
    village.run(20)
    assert all(dead.id not in one.core.members for one in many)
    assert many[1].core.sizes()["overlay_strangers"] == 0
    assert many[1].core.sizes()["overlay_silent"] == 1
    village.run(90)
    assert many[1].core.sizes()["overlay_silent"] == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: replace(record, signature=bytes(64)),
        lambda record: replace(record, version=record.version - 601),
        lambda record: replace(record, version=record.version + 61),
        lambda record: replace(record, overlay=bytes(32)),
    ],
    ids=["unsigned", "old", "future", "other overlay"],
)
def test_a_node_that_is_no_member_is_not_believed(spoil):
    village = Village()
    host, guest = village.settle_one(), village.settle_one()
    host.do(lambda core, now: core.join(now, [], serve=True))
    good = record_of(guest.identity, village, host.core.overlay)
    ask(guest, host, spoil(good))
    village.run(30)
    assert host.core.members == []
    assert host.core.sizes()["overlay_strangers"] == 0
    assert host.core.statistics().records[Fate.STRANGER] == 0


def test_who_is_named_and_answers_becomes_a_member():
    village = Village()
    host, friend, guest = (village.settle_one() for _ in range(3))
    for one in (host, guest):
        one.do(lambda core, now: core.join(now, [], serve=True))
    ask(friend, host, record_of(guest.identity, village, host.core.overlay))
    village.run(1)
    assert host.core.members == [guest.id]


def test_a_member_that_dies_is_replaced_within_a_minute():
    village = Village()
    many = village.settle_many(8)
    village.run(10)
    dead = many[7]
    dead.seat.crash()
    village.run(60)
    assert all(dead.id not in one.core.members for one in many[:7])
    assert all(dead.id not in one.neighbours[-1] for one in many[:7])


def test_a_member_that_comes_back_is_one_again():
    village = Village()
    many = village.settle_many(5)
    village.run(10)
    many[4].seat.crash()
    village.run(120)
    back = village.settle_one(4)
    back.do(lambda core, now: core.join(now, [many[0].id], serve=True))
    village.run(90)
    assert all(back.id in one.core.members for one in many[:4])


def test_failed_calls_count_as_misses():
    village = Village()
    many = village.settle_many(2)
    village.run(1)
    many[1].seat.crash()
    for _ in range(3):
        call = many[0].core.call(many[1].id, b"x", timeout=0.5, max_answer=10)
        many[0].seat.start(call)
    village.run(1)
    assert many[0].core.members == []


# --- clients ---


def test_a_client_knows_members_and_nobody_knows_it():
    village = Village()
    many = village.settle_many(6)
    client = village.settle_one()
    client.do(lambda core, now: core.join(now, [many[0].id], serve=False))
    village.run(60)
    assert len(client.core.members) == 6
    assert all(client.id not in one.core.members for one in many)


def test_a_client_answers_nobody():
    village = Village()
    client, other = village.settle_one(), village.settle_one()
    client.do(lambda core, now: core.join(now, [], serve=False))
    outcome = ask(other, client)
    village.run(10)
    with pytest.raises(Timeout):
        outcome.result()
    assert client.core.statistics().dropped[Dropped.CLIENT] == 1


def test_a_client_stores_no_record_and_is_quiet():
    village, directory = Village(), Directory()
    many = village.settle_many(30)
    village.run(20)
    client = village.settle_one(records=directory)
    client.do(lambda core, now: core.join(now, [one.id for one in many[:3]], serve=False))
    village.run(60)
    before = village.world.statistics().sent
    for one in many:
        one.seat.crash()
    village.run(180)
    assert directory.stored == 0
    assert village.world.statistics().sent - before <= 20


def test_a_node_that_turns_out_to_be_dialable_becomes_a_member():
    village, directory = Village(), Directory()
    many = village.settle_many(4)
    client = village.settle_one(records=directory)
    client.do(lambda core, now: core.join(now, [many[0].id], serve=False))
    village.run(30)
    client.do(lambda core, now: core.serve(now, serve=True))
    village.run(10)
    assert sum(client.id in one.core.members for one in many) >= 1
    assert directory.stored == 1
    client.do(lambda core, now: core.serve(now, serve=False))
    village.run(120)
    assert all(client.id not in one.core.members for one in many)


# --- bounds ---


def test_a_flood_of_names_is_pinged_a_few_at_a_time():
    village = Village()
    host, flooder = village.settle_one(), village.settle_one()
    host.do(lambda core, now: core.join(now, [], serve=True))
    dead = [record_of(gone(village).identity, village, host.core.overlay) for _ in range(100)]
    for first in range(0, 100, 5):
        ask(flooder, host, *dead[first : first + 5], *dead)
    before = village.world.statistics().sent
    village.run(4)
    assert host.core.statistics().records[Fate.STRANGER] == 100
    assert host.core.sizes()["overlay_strangers"] == strangers.MAX_STRANGERS
    answers = 20
    assert village.world.statistics().sent - before == answers + strangers.MAX_PINGING

    village.run(300)
    assert host.core.sizes()["overlay_strangers"] == 0
    assert host.core.members == []


def test_those_who_were_silent_are_remembered_within_a_bound(monkeypatch):
    monkeypatch.setattr(strangers, "MAX_SILENT", 3)
    village = Village()
    host, friend = village.settle_one(), village.settle_one()
    host.do(lambda core, now: core.join(now, [], serve=True))
    ask(
        friend,
        host,
        *[
            record_of(Identity(bytes([7, one]) * 16), village, host.core.overlay)
            for one in range(5)
        ],
    )
    village.run(1)
    assert host.core.sizes()["overlay_silent"] == 3


def test_who_asks_too_often_is_not_answered():
    village = Village()
    host, guest = village.settle_one(), village.settle_one()
    host.do(lambda core, now: core.join(now, [], serve=True))
    for _ in range(30):
        ask(guest, host)
    village.run(1)
    assert host.core.statistics().dropped[Dropped.RATIONED] == 10


def test_with_enough_members_a_stranger_that_others_name_is_pinged_now_and_then():
    village = Village()
    host = village.settle_one(enough=2, named=100.0)
    host.do(lambda core, now: core.join(now, [], serve=True))
    friend, *named = (village.settle_one() for _ in range(8))
    for one in named:
        one.do(lambda core, now: core.join(now, [], serve=True))
    known = []
    for one in named:
        ask(friend, host, record_of(one.identity, village, host.core.overlay))
        village.run(1)
        known.append(len(host.core.members))
    assert known == [1, 2, 3, 3, 3, 3, 3]
    village.run(100)
    ask(friend, host, record_of(named[-1].identity, village, host.core.overlay))
    ask(named[-2], host, record_of(named[-2].identity, village, host.core.overlay))
    village.run(1)
    assert len(host.core.members) == 5
