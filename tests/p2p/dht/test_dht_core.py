"""One node of the DHT: what it answers, to whom, how often, and what it is silent at."""

from dataclasses import replace
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p import tl
from p2p.core import Procedures
from p2p.dht import key as keys
from p2p.dht import node as nodes
from p2p.dht import value as values
from p2p.dht.core import DhtCore
from p2p.dht.counts import Count
from p2p.dht.events import Published
from p2p.dht.joining import Seed
from p2p.dht.settings import Settings
from p2p.entropy import seeded
from p2p.errors import DhtError, NoCapacity, Timeout
from p2p.identity import Identity
from p2p.ton import (
    AdnlNode,
    AdnlPing,
    DhtFindNode,
    DhtFindValue,
    DhtGetSignedAddressList,
    DhtMessage,
    DhtNode,
    DhtNodes,
    DhtPing,
    DhtPong,
    DhtQuery,
    DhtRegisterReverseConnection,
    DhtRequestReversePing,
    DhtStore,
    DhtStored,
    DhtUpdateRuleAnybody,
    DhtValueFound,
    DhtValueNotFound,
    PubEd25519,
    PubUnenc,
)
from simulations.network.places import address_of

NOW = 1_800_000_000.0
NETWORK = 7
OWNER = Identity(b"o" * 32)
PEERS = [Identity(bytes([number]) * 32) for number in range(1, 30)]
ASKER = PEERS[0]


class Sender:
    """Answers queries out of a list of functions, else not at all."""

    def __init__(self):
        self.answers = {}
        self.learnt = {}
        self.addresses = {}
        self.asked = []

    def send(self, peer, payload):
        raise AssertionError("the DHT only asks")

    async def query_at(self, peer, address, payload, *, timeout):  # noqa: ASYNC109 (the seam's)
        self.asked.append((peer, payload))
        self.addresses[peer] = address
        if peer not in self.answers:
            raise Timeout
        return self.answers[peer](payload)

    def learn(self, public, addresses):
        self.learnt[public] = addresses


class Lone:
    """A core by itself; `ask` is a peer's query."""

    def __init__(self, *, serving=True, settings=None, network=NETWORK):
        self.sender = Sender()
        self.procedures = Procedures()
        self.core = DhtCore(
            OWNER,
            self.sender,
            self.procedures,
            seeded(1),
            started_at=NOW,
            network=network,
            settings=settings or Settings(),
        )
        if serving:
            self.core.serve(NOW, address_of(0))

    def ask(self, question, *, peer=ASKER, now=NOW, record=None):
        prefix = b"" if record is None else tl.pack(DhtQuery(record))
        answer = self.core.query(now, peer.id, prefix + tl.pack(question))
        return None if answer is None else tl.parse_any(answer)

    def count(self, what):
        return self.core.statistics().counts[what]

    def tick(self, now):
        self.core.handle_timer(now)
        self.procedures.run()

    def run(self, coroutine):
        """Run a procedure that nothing makes wait."""
        ended = []

        async def catch():
            ended.append(await coroutine)

        self.procedures.start(catch())
        self.procedures.run()
        return ended[0]


def record(identity, *, version=1, network=NETWORK, index=None):
    place = PEERS.index(identity) + 1 if index is None else index
    return nodes.build(identity, address_of(place), version, network)


def obliging(identity):
    """What a node answers that knows nobody and takes everything."""

    def answer(payload):
        _, question = tl.parse_prefix(payload)
        match tl.parse_any(question):
            case DhtGetSignedAddressList():
                return tl.pack(record(identity))
            case DhtFindNode():
                return tl.pack(DhtNodes(()))
            case DhtFindValue():
                return tl.pack(DhtValueNotFound(DhtNodes(())))
            case DhtStore():
                return tl.pack(DhtStored())

    return answer


def know(lone, identities):
    """Let the node know others as active, as if they had answered."""
    for identity in identities:
        lone.sender.answers[identity.id] = obliging(identity)
    lone.core.bootstrap(NOW, [record(it) for it in identities])
    for turn in range(2 + len(identities) // 6):
        lone.tick(NOW + 40 * turn)
        for identity in identities:
            lone.ask(DhtPing(1), peer=identity, record=record(identity))
        lone.tick(NOW + 40 * turn + 1)


def signed(name=b"address", content=b"content", ttl=600, identity=ASKER):
    return values.sign(identity, name, content, int(NOW) + ttl)


def where(value):
    return keys.key_id(value.key.key)


# --- answers ---


@pytest.mark.parametrize("prefix", [None, record(ASKER)], ids=["bare", "introduced"])
def test_a_server_answers_every_question_of_ton(prefix):
    lone, value = Lone(), signed()
    missing = DhtValueNotFound(DhtNodes(()))
    assert lone.ask(DhtPing(5), record=prefix) == DhtPong(5)
    assert lone.ask(DhtFindNode(bytes(32), 6), record=prefix) == DhtNodes(())
    assert lone.ask(DhtFindValue(where(value), 6), record=prefix) == missing
    assert lone.ask(DhtStore(value), record=prefix) == DhtStored()
    assert lone.ask(DhtFindValue(where(value), 6), record=prefix) == DhtValueFound(value)
    assert lone.count(Count.ANSWERED) == 5


def test_a_servers_record_is_its_own_signed_and_boxed():
    lone = Lone()
    found = lone.ask(DhtGetSignedAddressList())
    assert isinstance(found, DhtNode)
    node = nodes.check(found, NETWORK)
    assert node.id == OWNER.id
    assert node.addresses == address_of(0)
    assert found == lone.core.record()


def test_a_record_of_new_addresses_is_newer():
    lone = Lone()
    first = lone.core.record()
    lone.core.serve(NOW, address_of(1))
    assert lone.core.record().version > first.version
    assert first.version == int(NOW)


def test_a_client_answers_nothing():
    lone = Lone(serving=False)
    for question in (DhtPing(5), DhtGetSignedAddressList(), DhtStore(signed())):
        assert lone.ask(question) is None
    assert lone.core.record() is None
    assert not lone.core.statistics().serving


def test_a_server_that_becomes_a_client_keeps_nothing_for_others():
    lone = Lone()
    lone.ask(DhtStore(signed()))
    lone.core.serve(NOW, None)
    assert lone.core.statistics().values == 0
    assert lone.ask(DhtPing(5)) is None


def test_addresses_that_nobody_reaches_are_refused():
    lone = Lone(serving=False)
    with pytest.raises(DhtError, match="no address"):
        lone.core.serve(NOW, replace(address_of(0), addrs=()))
    assert lone.core.record() is None


@pytest.mark.parametrize(
    "question",
    [
        DhtRegisterReverseConnection(PubEd25519(ASKER.public), 0, bytes(64)),
        DhtRequestReversePing(
            AdnlNode(PubEd25519(ASKER.public), address_of(1)), bytes(64), bytes(32), 6
        ),
        AdnlPing(1),
        DhtStored(),
    ],
    ids=lambda question: type(question).__name__,
)
def test_what_is_not_for_us_is_met_with_silence(question):
    assert Lone().ask(question) is None


@pytest.mark.parametrize(("asked", "named"), [(-1, 0), (0, 0), (1, 1), (10, 10), (2**31 - 1, 10)])
def test_ten_nodes_at_most_are_named(asked, named):
    lone = Lone()
    know(lone, PEERS[1:])
    assert len(lone.core.active()) >= 10
    assert len(lone.ask(DhtFindNode(bytes(32), asked)).nodes) == named
    assert len(lone.ask(DhtFindValue(bytes(32), asked)).nodes.nodes) == named


def test_the_nearest_nodes_are_named_nearest_first():
    lone = Lone()
    know(lone, PEERS[1:])
    found = lone.ask(DhtFindNode(bytes(32), 6)).nodes
    active = sorted(lone.core.active(), key=lambda node: node.id)
    assert list(found) == [node.record for node in active[:6]]


# --- storing ---


def test_a_value_that_breaks_a_rule_is_met_with_silence():
    lone = Lone()
    assert lone.ask(DhtStore(replace(signed(), signature=bytes(64)))) is None
    assert lone.ask(DhtStore(signed(ttl=4000))) is None
    assert lone.count(Count.REFUSED) == 2
    assert lone.core.statistics().values == 0


def test_a_value_that_has_expired_is_taken_and_dropped():
    lone = Lone()
    assert lone.ask(DhtStore(signed(ttl=0))) == DhtStored()
    assert lone.core.statistics().values == 0
    assert lone.count(Count.PASSED) == 1


def test_a_value_is_kept_unless_too_many_known_nodes_are_nearer():
    lone = Lone(settings=Settings(keep_beyond=0, k=2))
    know(lone, PEERS[1:])
    ours = 0
    for number in range(40):
        value = signed(b"%d" % number)
        nearer = sum(
            nodes.distance(node.id, where(value)) < nodes.distance(OWNER.id, where(value))
            for node in lone.core.active()
        )
        assert lone.ask(DhtStore(value), peer=PEERS[number % 20]) == DhtStored()
        kept = isinstance(lone.ask(DhtFindValue(where(value), 1), peer=PEERS[9]), DhtValueFound)
        assert kept == (nearer < 2)
        ours += kept
    assert 0 < ours < 40


def test_a_full_store_answers_what_is_worth_more_and_meets_the_rest_with_silence():
    lone = Lone(settings=Settings(max_values=1))
    own = lone.core._identity.id
    near, far = sorted(
        (signed(b"a"), signed(b"b")), key=lambda one: nodes.distance(keys.key_id(one.key.key), own)
    )
    assert lone.ask(DhtStore(far)) == DhtStored()
    assert lone.ask(DhtStore(near)) == DhtStored()
    assert lone.ask(DhtStore(far)) is None
    assert lone.ask(DhtStore(near)) == DhtStored()
    assert lone.count(Count.FULL) == 1


# --- who introduces itself ---


def test_who_introduces_itself_is_asked_at_its_address_and_only_then_named():
    lone = Lone()
    lone.sender.answers[ASKER.id] = lambda payload: tl.pack(record(ASKER))
    lone.ask(DhtPing(1), record=record(ASKER))
    assert lone.core.active() == []

    lone.tick(lone.core.next_deadline())

    assert [node.id for node in lone.core.active()] == [ASKER.id]
    assert lone.sender.learnt[ASKER.public] == record(ASKER).addr_list
    assert lone.sender.addresses[ASKER.id] == record(ASKER).addr_list.addrs[0]


def test_who_does_not_answer_there_is_not_named():
    lone = Lone()
    lone.ask(DhtPing(1), record=record(ASKER))
    for _ in range(100):
        lone.tick(lone.core.next_deadline())
    assert lone.core.active() == []
    assert lone.core.statistics().table.backup == 0


@pytest.mark.parametrize(
    "introduced",
    [
        record(PEERS[1]),
        record(ASKER, network=8),
        record(ASKER, network=None),
        replace(record(ASKER), version=9),
        nodes.build(ASKER, replace(address_of(1), addrs=()), 1, NETWORK),
    ],
    ids=["another's", "another network", "no network", "forged", "no address"],
)
def test_a_record_that_is_not_its_senders_own_good_one_is_left_and_the_question_answered(
    introduced,
):
    lone = Lone()
    assert lone.ask(DhtPing(1), record=introduced) == DhtPong(1)
    assert len(lone.core.active()) == lone.core.statistics().table.backup == 0


def test_a_newer_record_in_front_of_a_query_replaces_the_older():
    lone = Lone()
    for version, index in ((1, 1), (2, 5), (1, 1)):
        lone.ask(DhtPing(1), record=record(ASKER, version=version, index=index))
    lone.tick(NOW + 1)
    assert lone.sender.learnt[ASKER.public] == address_of(5)


def test_a_node_that_does_not_answer_at_one_address_is_asked_at_the_other():
    lone, addresses = Lone(), address_of(1).addrs + address_of(2).addrs
    introduced = nodes.build(ASKER, replace(address_of(1), addrs=addresses), 1, NETWORK)
    lone.ask(DhtPing(1), record=introduced)
    asked = []
    for seconds in (0, 10, 20):
        lone.tick(NOW + seconds)
        asked.append(lone.sender.addresses[ASKER.id])
    assert asked == [addresses[0], addresses[1], addresses[0]]


def test_a_node_may_introduce_itself_by_a_message():
    lone = Lone()
    lone.core.message(NOW, ASKER.id, tl.pack(DhtMessage(record(ASKER))))
    lone.core.message(NOW, PEERS[2].id, tl.pack(DhtMessage(record(PEERS[1]))))
    assert lone.core.statistics().table.backup == 1


# --- bounds ---


def test_a_peer_may_ask_a_hundred_at_once_and_twenty_a_second():
    lone = Lone()
    answered = [lone.ask(DhtPing(1)) is not None for _ in range(150)]
    assert answered == [True] * 100 + [False] * 50
    assert lone.ask(DhtPing(1), peer=PEERS[1]) == DhtPong(1), "another has its own"
    later = [lone.ask(DhtPing(1), now=NOW + 1) is not None for _ in range(30)]
    assert sum(later) == 20


def test_tables_stay_within_their_bounds_whoever_comes():
    settings = Settings(max_peers=10, max_values=5)
    lone = Lone(settings=settings)
    for number in range(200):
        identity = Identity(number.to_bytes(32, "big"))
        lone.ask(DhtPing(1), peer=identity, record=record(identity, index=number + 1))
        lone.ask(DhtStore(signed(b"%d" % number)), peer=identity)
    sizes = lone.core.sizes()
    assert sizes["dht_rates"] == sizes["dht_introductions"] == 10
    assert sizes["dht_values"] == 5
    assert sizes["dht_contacts"] <= 256 * 12


@given(st.binary(max_size=200))
def test_no_bytes_of_a_peer_raise(junk):
    lone = Lone()
    for start in (b"", DhtQuery.tl.id, DhtStore.tl.id, DhtFindNode.tl.id, DhtMessage.tl.id):
        lone.core.query(NOW, ASKER.id, start + junk)
        lone.core.message(NOW, ASKER.id, start + junk)


@given(st.data())
def test_no_damage_to_good_bytes_raises(data):
    good = tl.pack(DhtQuery(record(ASKER))) + tl.pack(DhtStore(signed()))
    at = data.draw(st.integers(0, len(good) - 1))
    changed = bytearray(good)
    changed[at] ^= data.draw(st.integers(1, 255))
    lone = Lone()
    lone.core.query(NOW, ASKER.id, bytes(changed))
    lone.core.query(NOW, ASKER.id, good[:at])


# --- what it is told when it asks ---


UNHELPFUL = [
    tl.pack(DhtStored()),
    tl.pack(DhtPong(1)),
    tl.pack(DhtValueFound(signed(b"another"))),
    tl.pack(DhtValueFound(replace(signed(), signature=bytes(64)))),
    tl.pack(DhtValueFound(signed(ttl=-5))),
    tl.pack(DhtNodes((record(ASKER, network=8),) * 40)),
    tl.pack(record(PEERS[3])),
]


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=40) | st.sampled_from(UNHELPFUL), min_size=1, max_size=20))
def test_no_answer_of_a_peer_raises(answers):
    lone, turns = Lone(), cycle(answers)
    know(lone, PEERS[1:4])
    for identity in PEERS[1:4]:
        lone.sender.answers[identity.id] = lambda payload: next(turns)
    assert lone.run(lone.core.find_value(signed().key.key)) is None
    lone.run(lone.core.find_nodes(bytes(32)))
    lone.run(lone.core.store(signed()))


def test_a_bad_value_counts_as_none_and_the_lookup_goes_on():
    lone, good = Lone(), signed()
    know(lone, PEERS[1:8])
    forged = replace(good, value=b"forged")
    for identity in PEERS[1:8]:
        lone.sender.answers[identity.id] = lambda payload: tl.pack(DhtValueFound(forged))
    lone.sender.answers[PEERS[7].id] = lambda payload: tl.pack(DhtValueFound(good))
    assert lone.run(lone.core.find_value(good.key.key)) == good


def test_more_nodes_than_may_be_named_are_not_looked_at():
    lone = Lone()
    know(lone, PEERS[1:2])
    named = tl.pack(DhtNodes(tuple(record(identity) for identity in PEERS[2:22])))
    lone.sender.answers[PEERS[1].id] = lambda payload: named
    lone.sender.asked.clear()
    lone.run(lone.core.find_nodes(bytes(32)))
    assert len({peer for peer, _ in lone.sender.asked}) == 1 + 10


def test_a_key_beyond_its_bounds_is_not_looked_for():
    lone = Lone()
    with pytest.raises(DhtError):
        lone.run(lone.core.find_value(replace(signed().key.key, idx=16)))


@pytest.mark.parametrize("ttl", [0, 4000])
def test_a_value_that_nobody_would_take_is_not_stored(ttl):
    lone = Lone()
    with pytest.raises(DhtError):
        lone.run(lone.core.store(signed(ttl=ttl)))


def test_a_client_asks_bare_and_a_server_introduces_itself():
    for serving in (False, True):
        lone = Lone(serving=serving)
        lone.sender.answers[ASKER.id] = lambda payload: tl.pack(record(ASKER))
        lone.core.bootstrap(NOW, [record(ASKER)])
        lone.tick(NOW)
        assert lone.sender.asked
        for _, payload in lone.sender.asked:
            assert payload.startswith(DhtQuery.tl.id) is serving


# --- beginning, and beginning again ---


def test_seeds_without_a_record_are_asked_for_it():
    lone = Lone()
    lone.sender.answers[ASKER.id] = lambda payload: tl.pack(record(ASKER))
    lone.core.bootstrap(NOW, [Seed(ASKER.public, address_of(1))])
    lone.tick(NOW)
    assert [node.id for node in lone.core.active()] == [ASKER.id]


def test_a_seed_that_gives_anothers_record_is_not_believed():
    lone = Lone()
    lone.sender.answers[ASKER.id] = lambda payload: tl.pack(record(PEERS[1]))
    lone.core.bootstrap(NOW, [Seed(ASKER.public, address_of(1))])
    lone.tick(NOW)
    assert lone.core.statistics().table.active == lone.core.statistics().table.backup == 0


def test_we_are_no_seed_of_ours_and_bad_records_are_none():
    lone = Lone()
    own = Seed(OWNER.public, address_of(0))
    lone.core.bootstrap(NOW, [own, lone.core.record(), record(ASKER, network=8)])
    assert lone.core.sizes()["dht_seeds"] == 0


def test_nodes_and_own_values_outlive_a_restart():
    lone, value = Lone(), signed(identity=OWNER)
    know(lone, PEERS[1:5])
    lone.core.publish(NOW + 100, "address", lambda expires: value)
    lone.tick(NOW + 100)
    assert lone.core.drain()[-1] == Published("address", 4)
    kept = lone.core.snapshot()
    assert {node.id.key for node in kept.nodes} == {it.public for it in PEERS[1:5]}
    assert kept.values == (value,)

    again = Lone()
    for identity in PEERS[1:5]:
        again.sender.answers[identity.id] = obliging(identity)
    broken = replace(value, signature=bytes(64))
    again.core.restore(NOW, replace(kept, values=(value, broken)))
    again.tick(NOW)
    again.tick(NOW)
    assert len(again.core.active()) == 4
    assert again.core.statistics().published == 1
    stores = [
        payload
        for _, payload in again.sender.asked
        if payload.endswith(tl.pack(value, boxed=False))
    ]
    assert stores
    for late in range(700, 800, 20):
        again.tick(NOW + late)
    assert again.core.statistics().published == 0, "it has expired"


def test_a_value_that_nobody_would_take_is_published_by_nobody_and_does_no_harm():
    lone = Lone()
    know(lone, PEERS[1:5])
    lone.core.drain()
    lone.core.publish(NOW + 100, "bad", lambda expires: replace(signed(), signature=b""))
    lone.tick(NOW + 100)
    assert lone.core.drain() == [Published("bad", 0)]
    assert lone.core.next_deadline() > NOW + 100


def test_only_so_many_values_are_published():
    lone = Lone(settings=Settings(max_published=2))
    for name in ("a", "b", "a"):
        lone.core.publish(NOW, name, lambda expires: None)
    with pytest.raises(NoCapacity):
        lone.core.publish(NOW, "c", lambda expires: None)
    lone.core.withdraw("a")
    lone.core.publish(NOW, "c", lambda expires: None)


def test_anybodys_values_are_served_as_well():
    lone = Lone()
    description = keys.describe_unsigned(PubUnenc(b"x"), b"name", 0, DhtUpdateRuleAnybody())
    for content in (b"first", b"second"):
        value = values.leave(description, content, int(NOW) + 60)
        assert lone.ask(DhtStore(value)) == DhtStored()
        assert lone.ask(DhtFindValue(where(value), 6)) == DhtValueFound(value)
