"""The overlay's core: what it passes on, answers and drops; floods in a village of 200."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core.tl.generator import TlGenerator

from p2p import codec, tl, ton
from p2p.core import Procedures
from p2p.dht import value as records
from p2p.entropy import seeded
from p2p.errors import AnswerTooBig, Timeout, TlError, Unreachable
from p2p.identity import AdnlId, Identity, short_id, verify
from p2p.overlay import broadcast, core, envelope, fec_part, liveness, pulse
from p2p.overlay.core import Cast, Dropped, NeighboursChanged, OverlayCore
from p2p.overlay.pulse import Kind, PulseChain
from p2p.overlay.settings import Settings
from tests.p2p.overlay.village import NETWORK, Village

NOW = 1_800_000_000.0
OWN, SOURCE = Identity(bytes(32)), Identity(b"\1" * 32)
PEER = AdnlId(b"p" * 32)
MEMBERS = [Identity(bytes([2, number]) * 16) for number in range(12)]


class Wire:
    """A sender that keeps what is sent, and answers no query; it runs the core's procedures."""

    def __init__(self):
        self.sent = []
        self.procedures = Procedures()

    def send(self, peer, payload):
        self.sent.append((peer, payload))

    async def query(self, peer, payload, *, timeout, max_answer=0):  # noqa: ASYNC109
        raise Unreachable

    def learn(self, public, addresses):
        raise AssertionError("the overlay knows no addresses")

    def take(self):
        self.procedures.run()
        sent, self.sent = self.sent, []
        return sent


def node(*, serve=True, calls=None, open_size=768):
    """A core with 12 members, ten of them neighbours, that has told what it had to."""
    wire = Wire()
    settings = Settings(admission=broadcast.Admission(open_size=open_size))
    made = OverlayCore(OWN, wire, wire.procedures, seeded(1), network=NETWORK, settings=settings)
    if calls is not None:
        made.attach(calls)
    made.join(NOW, [], serve=serve)
    for member in MEMBERS:
        made._members.admit(NOW, records.sign_member(member, made.overlay, int(NOW)))
    made.drain()
    return made, wire


def message(made, value):
    return tl.pack(ton.OverlayMessage(made.overlay)) + tl.pack(value)


def query(made, value):
    return tl.pack(ton.OverlayQuery(made.overlay)) + tl.pack(value)


def dropped(made):
    return {reason: count for reason, count in made.statistics().dropped.items() if count}


# --- broadcasts ---


def test_a_broadcast_goes_on_when_it_is_accepted_and_not_before():
    made, wire = node()
    said = broadcast.build(SOURCE, b"hello", NOW)
    made.message(NOW, PEER, message(made, said))
    (event,) = made.drain()
    assert event == broadcast.Broadcast(broadcast.id_of(said), SOURCE.public, b"hello")
    assert wire.take() == []

    made.accept(NOW, event.id)
    sent = wire.take()
    assert {payload for _, payload in sent} == {message(made, said)}
    assert len({peer for peer, _ in sent}) == len(sent) == 3
    assert {peer for peer, _ in sent} <= set(made.neighbours)

    made.accept(NOW, event.id)
    made.message(NOW, PEER, message(made, said))
    assert wire.take() == made.drain() == []
    assert made.statistics().passed_on == 1


def test_a_broadcast_that_is_refused_goes_nowhere():
    made, wire = node()
    made.message(NOW, PEER, message(made, broadcast.build(SOURCE, b"hello", NOW)))
    (event,) = made.drain()
    made.refuse(NOW, event.id)
    made.accept(NOW, event.id)
    assert wire.take() == []


def test_a_broadcast_is_not_sent_back_to_its_bearer():
    made, wire = node()
    for number in range(30):
        bearer = made.neighbours[number % 10]
        said = broadcast.build(SOURCE, bytes([number]), NOW)
        made.message(NOW, bearer, message(made, said))
        made.accept(NOW, broadcast.id_of(said))
        assert bearer not in [peer for peer, _ in wire.take()]


def test_our_own_goes_to_all_neighbours_and_is_no_news_when_it_returns():
    made, wire = node()
    assert made.broadcast(NOW, b"mine") == 10
    sent = wire.take()
    assert {peer for peer, _ in sent} == set(made.neighbours)
    made.message(NOW, PEER, sent[0][1])
    assert made.drain() == []


def test_a_broadcast_may_come_with_a_certificate_of_membership():
    made, _ = node()
    certificate = ton.OverlayMemberCertificate(
        ton.PubEd25519(bytes(32)), 0, 0, int(NOW) + 60, bytes(64)
    )
    prefix = ton.OverlayMessageWithExtra(made.overlay, ton.OverlayMessageExtra(certificate))
    said = broadcast.build(SOURCE, b"hello", NOW)
    made.message(NOW, PEER, tl.pack(prefix) + tl.pack(said))
    assert len(made.drain()) == 1


def test_a_client_is_told_nothing_and_can_speak():
    made, wire = node(serve=False)
    made.message(NOW, PEER, message(made, broadcast.build(SOURCE, b"hello", NOW)))
    assert made.drain() == []
    assert dropped(made) == {Dropped.CLIENT: 1}
    made.broadcast(NOW, b"mine")
    assert len(wire.take()) == 10


# --- longer broadcasts ---


def parts_of_ours(data=bytes(5_000), open_size=5_000):
    """A core that others admit 5,000 bytes from, and all the parts of a broadcast of its own."""
    made, wire = node(open_size=open_size)
    told, now = made.broadcast(NOW, data), NOW
    for _ in range(10):
        now += 0.01
        made.handle_timer(now)
    sent = [payload for _, payload in wire.take() if payload[36:40] == PART]
    return made, told, sent


PART = ton.OverlayBroadcastFec.tl.id


def test_what_is_longer_leaves_in_parts_with_the_time():
    made, told, sent = parts_of_ours()
    assert told == 10
    assert len(sent) == 14 * 3
    assert max(map(len, sent)) <= 988
    assert made.broadcast(NOW, bytes(5_000)) == 0, "it is under way"
    with pytest.raises(ValueError, match="1 MiB"):
        made.broadcast(NOW, bytes(2**20 + 1))


def test_what_is_longer_arrives_and_is_passed_on_when_it_is_accepted():
    _, _, sent = parts_of_ours()
    made, wire = node(open_size=5_000)
    for payload in dict.fromkeys(sent):
        made.message(NOW, PEER, payload)
    (event,) = made.drain()
    assert event.data == bytes(5_000)
    assert [peer for peer, _ in wire.take()] == [PEER], "it is told that we have it"
    made.accept(NOW, event.id)
    passed = wire.take()
    assert len(passed) == 14 * 3
    assert made.statistics().passed_on == 1
    assert {payload for _, payload in passed} == {*sent}


def test_member_that_has_a_broadcast_is_sent_its_parts_short():
    made, _, _ = parts_of_ours()
    fresh, wire = node(open_size=5_000)
    (one,) = made._parts._open
    fresh.broadcast(NOW, bytes(5_000))
    for peer in fresh.members:
        fresh.message(NOW, peer, message(fresh, ton.OverlayFecReceived(one)))
    fresh.handle_timer(NOW)
    kinds = {payload[36:40] for _, payload in wire.take()}
    assert kinds == {ton.OverlayBroadcastFecShort.tl.id}
    for peer in fresh.members:
        fresh.message(NOW, peer, message(fresh, ton.OverlayFecCompleted(one)))
    fresh.handle_timer(NOW + 0.02)
    assert wire.take() == []


def test_what_is_longer_is_admitted_from_nobody_unless_it_is_said():
    _, _, sent = parts_of_ours()
    made, _ = node()
    made.message(NOW, PEER, sent[0])
    assert made.statistics().parts[fec_part.Fate.NOT_ALLOWED] == 1
    client, _ = node(serve=False)
    client.message(NOW, PEER, sent[0])
    assert dropped(client) == {Dropped.CLIENT: 1}


# --- casts and pulses ---


def test_a_cast_of_anybody_is_told():
    made, _ = node()
    body = codec.pack([17, bytes(16)])
    made.message(NOW, PEER, message(made, ton.TussahCast(body)))
    assert made.drain() == [Cast(PEER, body)]


@pytest.mark.parametrize(
    "body", [b"", b"\xff", codec.pack([17]) + b"x", codec.pack([16, b"x"]), codec.pack(bytes(945))]
)
def test_a_cast_that_is_malformed_is_dropped(body):
    made, _ = node()
    made.message(NOW, PEER, message(made, ton.TussahCast(body)))
    assert made.drain() == []
    assert dropped(made) == {Dropped.MALFORMED: 1}


def test_a_peer_that_casts_without_end_is_rationed():
    made, _ = node()
    payload = message(made, ton.TussahCast(codec.pack([17, bytes(16)])))
    for _ in range(110):
        made.message(NOW, PEER, payload)
    assert len(made.drain()) == 100
    assert dropped(made) == {Dropped.RATIONED: 10}


def test_a_cast_goes_to_three_neighbours_or_to_one_peer():
    made, wire = node()
    body = codec.pack([17, bytes(16)])
    made.cast(NOW, body)
    sent = wire.take()
    assert len({peer for peer, _ in sent}) == 3
    made.cast_to(NOW, PEER, body)
    assert wire.take() == [(PEER, sent[0][1])]
    with pytest.raises(ValueError, match="944"):
        made.cast(NOW, bytes(945))
    longest = message(made, ton.TussahCast(bytes(944)))
    assert len(longest) <= 988


def a_pulse(identity=SOURCE, slot=1, kind=Kind.OPEN):
    return PulseChain(identity, 5, kind).pulse(slot)


def test_a_pulse_that_is_news_is_gathered_and_goes_on_once():
    made, wire = node()
    made.pulses.expect(SOURCE.id, NOW - 600, pulse.anchors_of(SOURCE, 5))
    payload = message(made, ton.TussahCast(pulse.pack_cast([a_pulse(), a_pulse()])))
    made.message(NOW, PEER, payload)
    assert made.drain() == [core.Pulses((a_pulse(),))]
    assert wire.take() == []
    made.message(NOW + 1, PEER, payload)
    assert made.drain() == []

    made.handle_timer(NOW + 1.9)
    assert [p for _, p in wire.take() if b"\x3a\x20" in p] == []
    made.handle_timer(NOW + 2)
    sent = [
        one for one in wire.take() if one[1].startswith(tl.pack(ton.OverlayMessage(made.overlay)))
    ]
    expected = message(made, ton.TussahCast(pulse.pack_cast([a_pulse()])))
    assert [payload for _, payload in sent] == [expected] * 3
    made.handle_timer(NOW + 5)
    assert wire.take() == []
    assert made.statistics().casts_sent == 1


def test_36_pulses_go_at_once():
    made, wire = node()
    made.pulse(NOW, [a_pulse(slot=slot) for slot in range(1, 38)])
    (first, *_) = wire.take()
    made.handle_timer(NOW + 2)
    (second, *_) = wire.take()
    assert [len(first[1]), len(second[1])] == [36 + 4 + 4 + 3 + 2 + 36 * 26 + 3, 36 + 4 + 32]


def test_forged_pulses_go_nowhere():
    made, wire = node()
    made.pulses.expect(SOURCE.id, NOW - 600, pulse.anchors_of(SOURCE, 5))
    forged = a_pulse()._replace(value=bytes(16))
    made.message(NOW, PEER, message(made, ton.TussahCast(pulse.pack_cast([forged]))))
    assert made.drain() == []
    made.handle_timer(NOW + 10)
    assert wire.take() == []
    assert made.statistics().casts_sent == 0
    assert made.statistics().pulses[liveness.Fate.FORGED] == 1


# --- calls ---


def test_a_call_is_answered_by_who_was_attached():
    village = Village()
    one, other = village.settle_many(2)
    outcome = one.seat.start(one.core.call(other.id, b"abc", timeout=5.0, max_answer=100))
    assert village.world.finish(outcome, within=1.0) == b"cba"
    assert other.calls == [(one.id, b"abc")]


@pytest.mark.parametrize(("allowed", "error"), [(1_000, None), (999, AnswerTooBig)])
def test_an_answer_may_be_as_long_as_was_said(allowed, error):
    village = Village()
    one, other = village.settle_many(2)
    call = one.core.call(other.id, bytes(1_000), timeout=5.0, max_answer=allowed)
    outcome = one.seat.start(call)
    village.run(1)
    if error is None:
        assert outcome.result() == bytes(1_000)
    else:
        with pytest.raises(error):
            outcome.result()


def test_silence_is_a_timeout():
    village = Village()
    one, other = village.settle_many(2)
    outcome = one.seat.start(one.core.call(other.id, b"hush", timeout=2.0, max_answer=100))
    village.run(3)
    with pytest.raises(Timeout):
        outcome.result()


def test_an_answer_that_is_no_reply_is_the_peers_fault():
    made, wire = node()

    async def pong(*arguments, **options):
        return tl.pack(ton.OverlayPong())

    wire.query = pong
    call = made.call(PEER, b"x", timeout=1.0, max_answer=10)
    with pytest.raises(TlError):
        call.send(None)


def test_without_a_handler_a_call_is_not_answered():
    made, _ = node()
    assert made.query(NOW, PEER, query(made, ton.TussahCall(b"x"))) is None


# --- questions about members, judged by pytoniq-core ---


def test_pytoniq_reads_our_answers():
    made, _ = node()
    judge = TlGenerator.with_default_schemas().generate()
    prefix = judge.serialize("overlay.query", {"overlay": made.overlay.hex()})

    pong = made.query(NOW, PEER, prefix + judge.serialize("overlay.ping", {}))
    assert judge.deserialize(pong)[0] == {"@type": "overlay.pong"}

    question = judge.serialize("overlay.getRandomPeers", {"peers": {"nodes": []}})
    answer, _ = judge.deserialize(made.query(NOW, PEER, prefix + question))
    assert answer["@type"] == "overlay.nodes"
    assert len(answer["nodes"]) == 5
    assert answer["nodes"][0]["id"]["key"] == OWN.public.hex()
    for named in answer["nodes"]:
        key = bytes.fromhex(named["id"]["key"])
        claim = {
            "id": {"id": short_id(key).hex()},
            "overlay": made.overlay.hex(),
            "version": named["version"],
        }
        signed = judge.serialize("overlay.node.toSign", claim)
        assert verify(key, signed, named["signature"])


def test_the_second_version_of_the_question_has_the_second_version_of_records():
    made, wire = node()
    guest = records.sign_member(SOURCE, made.overlay, int(NOW))
    empty = ton.OverlayEmptyMemberCertificate()
    newer = [
        ton.OverlayNodeV2(guest.id, guest.overlay, flags, guest.version, guest.signature, empty)
        for flags in (1, 0)
    ]
    question = ton.OverlayGetRandomPeersV2(ton.OverlayNodesV2(tuple(newer)))
    answer = tl.parse(ton.OverlayNodesV2, made.query(NOW, SOURCE.id, query(made, question)))
    assert len(answer.nodes) == 5
    assert {one.flags for one in answer.nodes} == {0}
    assert made.sizes()["overlay_strangers"] == 1
    assert wire.take() == []


def test_what_ton_keeps_for_later_we_do_not_have():
    made, _ = node()
    missing = made.query(NOW, PEER, query(made, ton.OverlayGetBroadcast(bytes(32))))
    assert tl.parse_any(missing) == ton.OverlayBroadcastNotFound()
    known = ton.OverlayGetBroadcastList(ton.OverlayBroadcastList(()))
    assert tl.parse_any(made.query(NOW, PEER, query(made, known))) == ton.OverlayBroadcastList(())


# --- what is dropped ---


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (ton.OverlayUnicast(b"x"), Dropped.UNSUPPORTED),
        (ton.OverlayBroadcastNotFound(), Dropped.MALFORMED),
        (ton.OverlayPing(), Dropped.MALFORMED),
        (ton.TussahReply(b"x"), Dropped.MALFORMED),
        (ton.TussahCall(b"x"), Dropped.MALFORMED),
    ],
)
def test_a_message_of_another_kind_is_counted_and_dropped(value, reason):
    made, _ = node()
    made.message(NOW, PEER, message(made, value))
    assert made.drain() == []
    assert dropped(made) == {reason: 1}


@pytest.mark.parametrize(
    "value",
    [
        ton.OverlayPong(),
        ton.TussahCast(b"x"),
        ton.DhtPing(1),
        ton.OverlayUnicast(b"x"),
        ton.AdnlPing(1),
    ],
)
def test_a_question_of_another_kind_is_not_answered(value):
    made, _ = node()
    assert made.query(NOW, PEER, query(made, value)) is None
    assert dropped(made) == {Dropped.MALFORMED: 1}


def test_a_query_is_no_message_and_a_message_no_query():
    made, _ = node()
    said = broadcast.build(SOURCE, b"hello", NOW)
    made.message(NOW, PEER, query(made, said))
    assert made.query(NOW, PEER, message(made, ton.OverlayPing())) is None
    assert made.drain() == []
    assert dropped(made) == {Dropped.MALFORMED: 2}


def test_what_is_for_another_overlay_is_left_alone():
    made, _ = node()
    other = bytes(32)
    said = tl.pack(broadcast.build(SOURCE, b"hello", NOW))
    made.message(NOW, PEER, tl.pack(ton.OverlayMessage(other)) + said)
    asked = tl.pack(ton.OverlayQuery(other)) + tl.pack(ton.OverlayPing())
    assert made.query(NOW, PEER, asked) is None
    assert dropped(made) == {Dropped.FOREIGN: 2}


def test_what_is_too_long_is_not_read():
    made, _ = node()
    prefix = tl.pack(ton.OverlayMessage(made.overlay))
    made.message(NOW, PEER, prefix + bytes(envelope.MAX_MESSAGE))
    made.query(NOW, PEER, tl.pack(ton.OverlayQuery(made.overlay)) + bytes(envelope.MAX_QUERY))
    assert dropped(made) == {Dropped.TOO_LONG: 2}


# --- fuzz: whatever comes, nothing is raised and every table keeps its bound ---

i32 = st.integers(-(2**31), 2**31 - 1)
key = st.one_of(
    st.builds(ton.PubEd25519, st.binary(min_size=32, max_size=32)),
    st.builds(ton.PubUnenc, st.binary(max_size=8)),
)
near = st.integers(int(NOW) - 700, int(NOW) + 100)
blob = st.binary(max_size=70)


def nodes(overlay):
    overlays = st.just(overlay) | st.binary(min_size=32, max_size=32)
    one = st.builds(ton.OverlayNode, key, overlays, near | i32, blob)
    return st.builds(ton.OverlayNodes, st.lists(one, max_size=8).map(tuple))


MADE, WIRE = node()
values = st.one_of(
    st.builds(
        ton.OverlayBroadcast,
        key,
        st.just(ton.OverlayEmptyCertificate()),
        st.sampled_from([0, 1, 2]),
        st.binary(max_size=100),
        near,
        blob,
    ),
    st.builds(ton.TussahCast, st.binary(max_size=80)),
    st.builds(ton.TussahCall, st.binary(max_size=80)),
    st.builds(ton.OverlayGetRandomPeers, nodes(MADE.overlay)),
    st.builds(ton.OverlayUnicast, blob),
    st.builds(ton.OverlayGetBroadcast, st.binary(min_size=32, max_size=32)),
    st.just(ton.OverlayPing()),
)
prefixes = st.sampled_from(
    [
        tl.pack(ton.OverlayMessage(MADE.overlay)),
        tl.pack(ton.OverlayQuery(MADE.overlay)),
        tl.pack(ton.OverlayMessageWithExtra(MADE.overlay, ton.OverlayMessageExtra())),
        tl.pack(ton.OverlayQueryWithExtra(MADE.overlay, ton.OverlayMessageExtra())),
        b"",
    ]
)


@st.composite
def payloads(draw):
    buffer = bytearray(draw(prefixes) + draw(values.map(tl.pack) | st.binary(max_size=120)))
    for _ in range(draw(st.integers(0, 2))):
        if buffer:
            buffer[draw(st.integers(0, len(buffer) - 1))] = draw(st.integers(0, 255))
    return bytes(buffer[: draw(st.integers(0, len(buffer)))] if draw(st.booleans()) else buffer)


@given(st.lists(payloads(), max_size=5), st.sampled_from([PEER, SOURCE.id]))
def test_any_bytes_are_taken_without_an_exception(many, peer):
    for payload in many:
        MADE.message(NOW, peer, payload)
        MADE.query(NOW, peer, payload)
        WIRE.take()
        MADE.handle_timer(NOW)
        for event in MADE.drain():
            assert not isinstance(event, NeighboursChanged)
    assert max(MADE.sizes().values()) <= broadcast.MAX_REMEMBERED
    assert MADE.sizes()["overlay_strangers"] <= 64


# --- floods ---


@pytest.fixture(scope="module")
def village():
    """200 members who have had half a minute to meet, and lose 5 % of all that they send."""
    village = Village(loss=0.05)
    village.settle_many(200)
    village.run(30)
    return village


def copies_at(villager):
    fates = villager.core.statistics().broadcasts
    return fates[broadcast.Fate.NEW] + fates[broadcast.Fate.KNOWN]


def flood(village, count, alive=None):
    """Broadcasts of several members: the share of the others reached, and copies per node."""
    alive = alive or village.villagers
    before = sum(copies_at(one) for one in alive)
    reached = 0
    for number in range(count):
        source = alive[(41 * number + 7) % len(alive)]
        data = b"%d at %f" % (number, village.now)
        source.do(lambda core, now, data=data: core.broadcast(now, data))
        village.run(2)
        reached += sum(data in [one.data for one in each.broadcasts] for each in alive)
    copies = sum(copies_at(one) for one in alive) - before
    return reached / count / (len(alive) - 1), copies / count / len(alive)


def test_in_a_network_without_loss_all_neighbours_of_all_reach_everybody():
    village = Village()
    many = village.settle_many(40)
    village.run(30)
    for one in many:
        one.core._settings = replace(one.core._settings, fanout=10)
    assert flood(village, 5)[0] == 1.0


def test_a_flood_of_three_reaches_most_with_less_than_three_copies(village):
    reached, copies = flood(village, 10)
    assert reached > 0.85
    assert copies < 2.85


def test_nobody_is_told_by_the_application_twice(village):
    for one in village.villagers:
        told = [event.id for event in one.broadcasts]
        assert len(told) == len(set(told))


def test_a_broadcast_that_is_refused_everywhere_reaches_no_further_than_its_neighbours(village):
    for one in village.villagers:
        one.accepts = False
    reached, _ = flood(village, 2)
    assert reached <= 10 / 199
    for one in village.villagers:
        one.accepts = True


def test_pulses_reach_most_within_seconds(village):
    sources = village.villagers[50:60]
    for one in village.villagers:
        for source in sources:
            anchors = pulse.anchors_of(source.identity, 5)
            one.core.pulses.expect(source.id, village.now - 600, anchors)
    for source in sources:
        said = a_pulse(source.identity)
        source.do(lambda core, now, said=said: core.pulse(now, [said]))
    village.run(15)
    reached = sum(len(one.pulses) for one in village.villagers) / 10 / 199
    assert reached > 0.82


def test_a_third_of_the_members_may_die(village):
    alive, dead = village.villagers[:140], village.villagers[140:]
    for one in dead:
        one.seat.crash()
    village.run(60)
    reached, copies = flood(village, 10, alive)
    assert reached > 0.79
    assert copies < 2.85
