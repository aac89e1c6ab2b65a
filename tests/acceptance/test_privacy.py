"""One ask through three relays over libp2p: what stands on the links, and who could know whom.

All nodes live in this process, so the objects that each of them keeps can be walked while the
answer streams. A walk begins at one object of a circuit, a stream or a link and follows every
reference through objects of the project and through containers. The ask is watched at every onion
message of every node. Planted leaks show that the walk finds what it looks for.
"""

import functools
import gc
import types
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import pytest
import trio

from inference.client import AskRequest, Chosen, Done, Piece, ask
from inference.engine.base import ChatMessage
from inference.engine.fake import FakeEngine
from p2p.identity import Identity
from p2p.node import Node
from p2p.onion.relay import RelayCore
from p2p.overlay.advert import Role
from p2p.wire import FRAME, Endpoint, Kind

CANARY = "the-canary-sings-of-wild-silk-and-of-nothing-else"
QUESTION = " ".join([CANARY] * 40)
"""more than one cell of a prompt"""

HEAD = 9
"""bytes of a link's message in front of its payload: kind and number"""

PIECE = 12
"""bytes of the answer that would not stand in sealed frames by chance"""

NOBODY = Role(0)

PATIENCE = 60.0
"""seconds until a test gives up; none waits for a time to pass"""

STEPS = 12
"""steps after which the engine waits, in mid-answer, for the test to have looked"""


# --- walking what an object holds ---


class Walk:
    """All that is reached from one object, and by which way.

    Code, classes and modules are no state of a circuit and are not entered, nor what is neither
    the project's nor a container; `walls` are classes and `skip` objects that are not entered.
    """

    CONTAINERS = (dict, list, tuple, set, frozenset, deque, types.CellType, functools.partial)
    MODULES = ("p2p", "inference", "ledger", "scripts", "trio._channel")

    def __init__(self, root, *, walls=(), skip=()):
        self.things = []
        self._walls = walls
        self._parents = {id(thing): None for thing in skip}
        self._go(root)

    def _go(self, root):
        self._parents[id(root)] = None
        self.things.append(root)
        for thing in self.things:  # it grows, and keeps alive what the ids stand for
            for child in self._children(thing):
                if id(child) not in self._parents:
                    self._parents[id(child)] = thing
                    self.things.append(child)

    def _children(self, thing):
        if isinstance(thing, (str, bytes, bytearray, type, *self._walls)):
            return ()
        if isinstance(thing, types.FunctionType):
            return self._closed_over(thing)
        if isinstance(thing, types.MethodType):
            return (thing.__self__, thing.__func__)
        if isinstance(thing, memoryview):
            return (thing.obj,)
        entered = isinstance(thing, self.CONTAINERS) or self._is_ours(type(thing).__module__)
        return gc.get_referents(thing) if entered else ()

    def _closed_over(self, function):
        if not self._is_ours(function.__module__):
            return ()
        defaults = (function.__defaults__, function.__kwdefaults__)
        return (*(function.__closure__ or ()), *filter(None, defaults))

    def _is_ours(self, module):
        return any(module == name or module.startswith(f"{name}.") for name in self.MODULES)

    def way(self, thing):
        """The types on the way from the root to a thing."""
        steps = []
        while thing is not None:
            steps.append(type(thing).__name__)
            thing = self._parents[id(thing)]
        return " > ".join(reversed(steps))

    def way_to(self, party):
        """The way to the first thing that names a party, None if none does."""
        return next((self.way(thing) for thing in self.things if party.is_named_by(thing)), None)


class Party:
    """A node by all its names: id, key, PeerId, the ends of its connections."""

    def __init__(self, identity):
        names = (identity.id, identity.public)
        self.names = [*names, *(name.hex().encode() for name in names), identity.peer_id.encode()]
        self.endpoints = []

    def is_at(self, endpoint):
        host, port = endpoint
        self.endpoints.append((host, port))
        self.names += [f"{host}:{port}".encode(), f"/ip4/{host}/tcp/{port}".encode()]

    def is_named_by(self, thing):
        if isinstance(thing, str):
            thing = thing.encode(errors="surrogateescape")
        if isinstance(thing, (bytes, bytearray)):
            return any(name in thing for name in self.names)
        if isinstance(thing, (list, tuple)):
            return tuple(thing[:2]) in self.endpoints or self._is_spelt_by(thing)
        return False

    def _is_spelt_by(self, numbers):
        """Byte by byte, as the tokens of the fake engine are."""
        spelt = [n for n in numbers if type(n) is int and 0 <= n < 256]
        return len(spelt) >= len(self.names[0]) and self.is_named_by(bytes(spelt))


# --- the parts of a node ---


def onion_of(node):
    return node._stack._onion


def passages(node):
    return list(onion_of(node)._relay._passages.values())


def circuits(node):
    """Circuits, their streams, their channels: each apart from the table that holds it."""
    return [
        *passages(node),
        *onion_of(node)._circuits._circuits.values(),
        *node._inside.circuits._senders.values(),
        *node._inside.circuits._untaken.values(),
    ]


def links(node):
    """Both halves of every link, and what of it holds lists of nodes that everybody may have."""
    yield from ((link, ()) for link in onion_of(node)._links._by_number.values())
    for end in node._carrier._links._ends.values():
        # The directory's answers wait here too; onion messages are all seen by the tap.
        yield end, (end.outbox._rest, end.inbox, end._joiner)


def neighbours(node, passage):
    """Whom a relay's circuit leads to if its numbers are looked up."""
    ports = [port for port in (passage.behind, passage.ahead) if port is not None]
    found = (onion_of(node)._links.numbered(port.link) for port in ports)
    return [passage.next, *(link.peer for link in found if link is not None)]


# --- watching an ask ---


@dataclass
class Message:
    """One message of a link, inside libp2p's encryption."""

    node: bytes
    peer: bytes
    sent: bool
    data: bytes

    @property
    def is_onion(self):
        return self.data[0] == Kind.ONION


class Watch:
    """The taps of all nodes, and what the walks of their objects have found."""

    def __init__(self, village):
        self.village = village
        self.relays, self.workers = [], []
        self.client = None
        self.asking = False
        self.pause = Pause()

        self.messages = []
        self.opened = {}
        self.leaks = {}
        self.walked = {}
        self._parties = {}
        self._path = ()

    async def up(self, roles=NOBODY):
        """A node with taps."""
        identity = self.village.next_identity()
        party = self._parties[identity.id] = Party(identity)
        node = await self.village.up(
            roles,
            tap=lambda link, sent, data: self._tap(identity.id, link, sent, data),
            onion_tap=lambda _, text: self.opened.setdefault(identity.id, []).append(text),
            meet=lambda link, ours, theirs: party.is_at(ours),
        )
        if node.endpoint is not None:
            party.is_at(node.endpoint)
        return node

    def _tap(self, node_id, link, sent, data):
        message = Message(node_id, link.peer, sent, data)
        self.messages.append(message)
        if self.asking and message.is_onion:
            self._look(self.village.nodes[node_id])

    def hear(self, event):
        """What the asker knows: whom its circuit leads to, and that it is answered just now."""
        if isinstance(event, Chosen):
            self._path = event.path
        if isinstance(event, Piece) and not self.pause.over.is_set():
            self._look_everywhere()
            self.pause.over.set()

    # --- walking ---

    def _look_everywhere(self):
        """In mid-answer: every relay and worker; and all that those behind the guard hold."""
        for node in [*self.relays, *self.workers]:
            self._look(node)
        for node_id in self._path[1:]:
            walk = self._walk("stranger", self.village.nodes[node_id])
            self._note("a node behind the guard knows the client", walk.way_to(self._asker))

    @property
    def _asker(self):
        return self._parties[self.client.id]

    def _look(self, node):
        if node in self.relays:
            self._look_at_relay(node)
        elif node in self.workers:
            self._look_at_worker(node)

    def _look_at_relay(self, relay):
        for root, skip in [*((circuit, ()) for circuit in circuits(relay)), *links(relay)]:
            walk = self._walk("relay", root, skip=skip)
            client = walk.way_to(self._asker)
            for worker in self.workers if client else ():
                self._note(f"a relay joins {client} and", walk.way_to(self._parties[worker.id]))
        for passage in passages(relay):
            met = neighbours(relay, passage)
            if self.client.id in met and any(worker.id in met for worker in self.workers):
                self._note("a relay joins by numbers", "Passage > Port > int")

    def _look_at_worker(self, worker):
        serving = self.village.servings[worker.id]
        for root in (serving._core, serving, *circuits(worker)):
            walk = self._walk("worker", root, walls=(Node,))
            self._note("the worker knows the client", walk.way_to(self._asker))
            for guard in self._path[:1]:
                self._note("the worker knows the guard", walk.way_to(self._parties[guard]))

    def _walk(self, role, root, **limits):
        walk = Walk(root, **limits)
        for thing in walk.things:
            self.walked[role, type(thing).__name__] = None
        return walk

    def _note(self, leak, way):
        if way is not None:
            self.leaks[f"{leak}: {way}"] = None


class Pause:
    """The fake engine's time: none passes, but it stands still in mid-answer until `over`."""

    def __init__(self):
        self.over = trio.Event()
        self._steps = 0

    async def sleep(self, seconds):
        self._steps += 1
        if self._steps == STEPS:
            await self.over.wait()
        await trio.lowlevel.checkpoint()


@pytest.fixture
async def watch(village, fake_model):
    """Four relays, two workers and a client, all watched."""
    watch = Watch(village)
    watch.relays = [await watch.up(Role.RELAY) for _ in range(4)]
    watch.workers = [await watch.up(Role.WORKER) for _ in range(2)]
    watch.client = await watch.up()
    async with trio.open_nursery() as nursery:
        for worker in watch.workers:
            engine = FakeEngine(seed=1, sleep=watch.pause.sleep, load_seconds=0.0)
            await nursery.start(engine.run)
            await village.serve(worker, engine, fake_model)
        await village.acquainted()
        yield watch
        nursery.cancel_scope.cancel()


@pytest.fixture
def policy(policy_for, fake_model):
    return policy_for(fake_model)


async def asked(watch, policy, prompt=QUESTION):
    """What an ask ended in that was watched from its first message to its last."""
    request = AskRequest(messages=(ChatMessage(role="user", content=prompt),), max_tokens=60)
    watch.asking = True
    with trio.fail_after(PATIENCE):
        async with ask(request, watch.client, policy) as answer:
            async for event in answer:
                watch.hear(event)
    watch.asking = False
    assert isinstance(event, Done), event
    return event


# --- the promises ---


async def test_nothing_stands_in_clear_on_a_link_and_every_frame_is_of_one_size(watch, policy):
    done = await asked(watch, policy)

    onion = [message for message in watch.messages if message.is_onion]
    chain = [watch.client.id, *done.path]
    ends = {(message.node, message.peer, message.sent) for message in onion}
    for one, other in pairwise(chain):
        for sent in (True, False):
            assert {(one, other, sent), (other, one, sent)} <= ends
    for message in onion:
        size = len(message.data) - HEAD
        assert size > 0
        assert size % FRAME == 0

    assert len(done.text) > 5 * PIECE
    said = [text.encode() for text in (CANARY, *pieces(done.text))]
    assert CANARY.encode() in b"".join(watch.opened[done.worker])
    everything = b"\0".join(message.data for message in watch.messages)
    assert not [text for text in said if text in everything]


def pieces(text):
    return [text[at : at + PIECE] for at in range(len(text) - PIECE + 1)]


async def test_no_relay_joins_asker_and_worker_and_the_worker_knows_neither_asker_nor_guard(
    watch, policy
):
    await asked(watch, policy)

    assert not list(watch.leaks)
    kinds = {
        "relay": ("Passage", "Port", "Meter", "Hop", "LinkCore", "End", "Relayed"),
        "worker": ("WorkerCore", "Order", "Job", "EndCircuit", "Streams", "FakeEngine"),
        "stranger": ("Stack", "Listing", "Libp2pCarrier", "Links"),
    }
    missing = [
        (role, kind) for role in kinds for kind in kinds[role] if (role, kind) not in watch.walked
    ]
    assert not missing


# --- planted leaks ---


async def test_a_relay_that_keeps_the_path_is_found(watch, policy, monkeypatch):
    begin = RelayCore.begin

    def keep_path(self, now, link, circuit, opened):
        link.paths = [[watch.client.id, opened.next, *(worker.id for worker in watch.workers)]]
        begin(self, now, link, circuit, opened)

    monkeypatch.setattr(RelayCore, "begin", keep_path)
    await asked(watch, policy)
    assert any("a relay joins LinkCore > " in leak for leak in watch.leaks)
    assert not any("the worker" in leak for leak in watch.leaks)


async def test_a_worker_that_is_told_who_asks_is_found(watch, policy):
    await asked(watch, policy, f"I am {watch.client.id.hex()}. {QUESTION}")
    assert any("the worker knows the client: WorkerCore > " in leak for leak in watch.leaks)
    assert not any("a relay" in leak for leak in watch.leaks)


class Slotted:
    __slots__ = ("kept",)

    def __init__(self, kept):
        self.kept = kept

    def method(self):
        """Something to bind."""


class Open:
    def __init__(self, kept):
        self.kept = kept


Slotted.__module__ = Open.__module__ = "p2p.planted"


def closed_over(kept):
    def function():
        return kept

    function.__module__ = "p2p.planted"
    return function


ASKER = Identity(b"a" * 32)
HIDING = [
    *(Slotted, Open, closed_over, lambda kept: Slotted(kept).method, lambda kept: {kept: 1}),
    *(lambda kept: {1: [kept]}, lambda kept: deque([(1, kept)]), lambda kept: {kept}),
    *(lambda kept: functools.partial(print, kept), lambda kept: memoryview(b"at " + kept)),
    *(lambda kept: kept.hex(), lambda kept: bytearray(b"..." + kept), list, tuple),
]


@pytest.mark.parametrize("hide", HIDING)
def test_an_id_is_found_wherever_it_is_kept(hide):
    walk = Walk(Open([hide(ASKER.id)]))
    assert walk.way_to(Party(ASKER)).startswith("Open > list > ")
    assert walk.way_to(Party(Identity(b"b" * 32))) is None


@pytest.mark.parametrize(
    "kept",
    [
        ASKER.public,
        ASKER.peer_id,
        Endpoint("127.0.0.1", 4_001),
        "http://127.0.0.1:4001/",
        "/ip4/127.0.0.1/tcp/4001",
    ],
)
def test_every_name_of_a_node_counts(kept):
    party = Party(ASKER)
    party.is_at(Endpoint("127.0.0.1", 4_001))
    assert Walk(Open(kept)).way_to(party) == f"Open > {type(kept).__name__}"


def test_walls_and_what_is_skipped_are_not_entered():
    secret, party = [ASKER.id], Party(ASKER)
    assert Walk(Open(secret)).way_to(party) == "Open > list > bytes"
    assert Walk(Open(Slotted(secret)), walls=(Slotted,)).way_to(party) is None
    assert Walk(Open(secret), skip=(secret,)).way_to(party) is None
