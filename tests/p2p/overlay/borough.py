"""Directories of many nodes in virtual time; their calls are carried, broadcasts are modelled.

A flood with fanout 3 leaves 7.5 % unreached (simulated with the real one); here each node hears of
an advert with that chance of not, after some seconds at random.
"""

from dataclasses import replace

from p2p.entropy import exponential, sample, seeded
from p2p.errors import Unreachable
from p2p.identity import Identity
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Fields, OnionKey, Role, Rules
from p2p.overlay.directory_core import DirectoryChanged, DirectoryCore, Server
from p2p.overlay.epochs import calendar_of
from p2p.overlay.liveness import PulseBook
from p2p.overlay.snapshot import Snapshot
from p2p.transport.fabric import EPOCH
from p2p.wire import Endpoint
from simulations.memo import AdvertMemo
from simulations.messages import MessageWorld
from simulations.network.fabric import Network
from simulations.seat import OVERHEAD

UNREACHED = 0.075
SERVER = Role.RELAY | Role.DIALABLE | Role.DIRECTORY
FREE_WORK = b"12345678"


class Citizen:
    """A node: its directory, and what has come out of it."""

    def __init__(self, borough, number, *, serving, life=0, discreet=False):
        self.borough = borough
        self.number = number
        self.identity = Identity(number.to_bytes(32, "big"))
        self.id = self.identity.id
        self.serving = serving
        self.seat = borough.world.seat(self.identity)
        self.entropy = self.seat.entropy.fork(f"life/{life}")
        self.events = []
        self.roots = {}
        self.asked_of = []
        self.bytes_in = self.bytes_out = 0
        rules, calendar = borough.rules, borough.calendar
        self.book = PulseBook(calendar.epoch)
        self.core = DirectoryCore(
            self.id,
            self._carry,
            self.seat.procedures,
            self.entropy.fork("directory"),
            rules=rules,
            servers=borough.first,
            book=self.book,
            calendar=calendar,
            read=borough.memo,
            discreet=discreet,
        )
        self.seat.attach(self)

    @property
    def up(self):
        return self.seat.up

    @property
    def listing(self):
        return self.core.listing

    @property
    def statistics(self):
        return self.core.statistics()

    def start(self):
        self.do(lambda core, now: core.start(now, serve=self.serving))
        return self

    def do(self, action):
        self.seat.call(lambda now: (action(self.core, now), self._settle(now)))

    def sleep(self):
        """Close the lid: nothing is heard, said or due."""
        self.borough.world.sleep(self.seat)

    def wake(self):
        self.borough.world.wake(self.seat)
        self.do(lambda core, now: core.handle_timer(now))

    def crash(self):
        self.seat.crash()

    def ids(self):
        """Everybody on its list, itself included."""
        mine = self.listing.find(self.id)
        others = [entry.id for entry in self.listing.usable(Role(0))]
        return set(others) | ({self.id} if mine else set())

    def saw(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    # what a stack does around each call into the core

    def message(self, now, peer, payload):
        pass

    def query(self, now, peer, payload):
        self.bytes_in += len(payload) + OVERHEAD
        answer = self.core.call(now, peer, payload)
        self.bytes_out += len(answer) + OVERHEAD
        self._settle(now)
        return answer

    def handle_timer(self, now):
        self.core.handle_timer(now)
        self._settle(now)

    def next_deadline(self):
        return self.core.next_deadline()

    async def _carry(self, peer, body, /, *, timeout, max_answer):  # noqa: ASYNC109
        if peer not in self.borough.citizens:
            raise Unreachable("nobody of this name")
        self.asked_of.append((peer, body))
        other = self.borough.citizens[peer]
        self.seat.learn(other.identity.public, other.seat.addresses)
        self.bytes_out += len(body) + OVERHEAD
        answer = await self.seat.query(peer, body, timeout=timeout, max_answer=max_answer)
        self.bytes_in += len(answer) + OVERHEAD
        return answer

    def _settle(self, now):
        events = self.core.drain()
        self.events += events
        if any(isinstance(event, DirectoryChanged) for event in events):
            status = self.listing.status()
            self.roots.setdefault(status.epoch, status.root)


class Lies:
    """What a liar shows of the lists that are frozen: without `withheld`, with `private` adverts.

    What it shows other servers they tell on, so it lies to those who fetch.
    """

    def __init__(self, core, withheld=frozenset(), private=()):
        self.withheld, self.private = withheld, private
        self._honest = core._lists
        self._shown = {}
        core._server._lists = self

    def asked_at(self, now, cut):
        honest = self._honest.asked_at(now, cut)
        if honest is None or self._honest._frozen.get(cut) is not honest:
            return honest
        key = honest.root, self.withheld, self.private
        if key not in self._shown:
            kept = [advert for advert in honest.adverts if advert.id not in self.withheld]
            self._shown[key] = Snapshot(cut, [*kept, *self.private])
        return self._shown[key]

    def body(self, digest):
        mine = [advert for advert in self.private if advert.digest == digest]
        return mine[0] if mine else self._honest.body(digest)

    def newest(self):
        return self._honest.newest()


class Borough:
    """A world of directories; the nodes of numbers `first` are those of the settings."""

    def __init__(self, seed=1, *, loss=0.0, dev=False, first=(0, 1, 2), unreached=UNREACHED):
        entropy = seeded(seed)
        self.entropy = entropy.fork("borough")
        self.world = MessageWorld(entropy.fork("world"), Network(entropy.fork("net"), loss=loss))
        self.rules = Rules(network=7, dev=dev)
        self.calendar = calendar_of(self.rules)
        self.unreached = unreached
        self.memo = AdvertMemo()
        self.first = [Server(Identity(n.to_bytes(32, "big")).id, b"%d" % n) for n in first]
        self.citizens = {}
        self.lives = 0

    @property
    def now(self):
        return self.world.now

    def run(self, seconds):
        self.world.run(self.now + seconds)

    def run_to_epoch(self, offset=0.0):
        """To some seconds after the next begin of an epoch."""
        begin = self.calendar.begin(self.calendar.number(self.now) + 1)
        self.world.run(begin + offset)

    def settle(self, number, *, serving=True, life=0, discreet=False):
        citizen = Citizen(self, number, serving=serving, life=life, discreet=discreet)
        self.citizens[citizen.id] = citizen
        return citizen

    def servers(self, count):
        """That many servers, started and advertised together."""
        many = [self.settle(number) for number in range(count)]
        for one in many:
            self.meet(one.start())
            self.publish(one)
        return many

    def meet(self, citizen):
        """Give it ten neighbours."""
        others = [one.id for one in self.citizens.values() if one.serving and one is not citizen]
        near = sample(self.entropy, others, 10)
        citizen.do(lambda core, now: core.neighbours(now, near))

    def restart(self, citizen):
        """A crashed node's next life: it knows nothing, and says so to everybody."""
        self.lives += 1
        again = self.settle(citizen.number, life=self.lives).start()
        self.meet(again)
        self.publish(again)
        return again

    def client(self, number=10_000, *, discreet=False):
        return self.settle(number, serving=False, discreet=discreet).start()

    # --- adverts ---

    def fields(self, number, roles=SERVER, **changes):
        """Each node in a /16 of its own."""
        host = f"{20 + (number >> 8 & 63)}.{number & 255}.{number >> 14 & 255}.9"
        host = changes.pop("host", host)
        base = Fields(
            roles=roles,
            addresses=(Endpoint(host, 4001),) if roles & Role.DIALABLE else (),
            onion=OnionKey(int(EPOCH // 86_400), number.to_bytes(32, "big")),
            work=None if self.rules.dev else FREE_WORK,
        )
        return replace(base, **changes)

    def advert(self, citizen, **changes):
        seq = changes.pop("seq", int(self.now * 1_000))
        life = changes.pop("life", int(self.rules.lives[1]))
        fields = self.fields(citizen.number, seq=seq, life=life, **changes)
        buffer = adverts.build(citizen.identity, fields, self.now, self.rules)
        return buffer

    def publish(self, citizen, buffer=None, **changes):
        """Say it to oneself and, sooner or later, to most servers."""
        buffer = buffer or self.advert(citizen, **changes)
        citizen.do(lambda core, now: core.offer(now, buffer))
        for other in list(self.citizens.values()):
            if other.serving and self.entropy.uniform() >= self.unreached:
                delay = 0.05 + min(20.0, exponential(self.entropy, 1.0)) * self.calendar.epoch / 600
                self.world.at(
                    self.now + delay, lambda other=other: self.hear(other, citizen, buffer)
                )
        return buffer

    def hear(self, other, citizen, buffer):
        public = citizen.identity.public
        other.do(lambda core, now: core.offer(now, buffer, public))
