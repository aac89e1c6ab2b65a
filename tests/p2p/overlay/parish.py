"""Whole overlays in virtual time: members, broadcasts, pulses and the directory of each node.

What joins the cores here is what a stack does.
"""

from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.overlay import settings as overlay_settings
from p2p.overlay.advert import Fields, Role, Rules
from p2p.overlay.announcer import Announcer
from p2p.overlay.core import PREFIXES, Broadcast, NeighboursChanged, OverlayCore
from p2p.overlay.directory_core import DirectoryCore, SayAgain, Server
from p2p.wire import Endpoint
from simulations.messages import MessageWorld
from simulations.network.fabric import Network
from tests.p2p.overlay.village import NETWORK, Directory, Found

RULES = Rules(network=NETWORK, dev=True)


class Household:
    """A node: `fields` is what it says of itself, a client says nothing."""

    def __init__(self, parish, number, fields=None):
        self.identity, self.fields = Identity(number.to_bytes(32, "big")), fields
        self.id = self.identity.id
        self.seat = parish.world.seat(self.identity)
        parish.seats[self.id] = self.seat
        entropy = self.seat.entropy
        self.overlay = OverlayCore(
            self.identity,
            Found(self.seat, parish),
            self.seat.procedures,
            entropy.fork("overlay"),
            network=NETWORK,
            settings=overlay_settings.DEV,
            records=parish.records,
        )
        self.directory = DirectoryCore(
            self.id,
            self.overlay.call,
            self.seat.procedures,
            entropy.fork("directory"),
            rules=RULES,
            servers=[Server(peer, peer) for peer in parish.first],
            book=self.overlay.pulses,
        )
        self.overlay.attach(self.directory)
        self.announcer = Announcer(
            self.identity, RULES, entropy.fork("advert"), lambda day: bytes(32), beating=True
        )
        if fields is not None:
            self.announcer.listen((Endpoint(f"127.0.{number >> 8}.{number & 255}", 4001),))
        self.said = 0
        self.events = []
        self.seat.attach(self, *PREFIXES)
        self.do(lambda now: self.start(now, parish.first))

    @property
    def listing(self):
        return self.directory.listing

    def start(self, now, first):
        serve = self.fields is not None
        self.overlay.join(now, first, serve=serve)
        self.directory.start(now, serve=serve)
        if serve:
            self.announcer.say(now, self.fields)

    def do(self, action):
        self.seat.call(lambda now: (action(now), self._settle(now)))

    # --- what a stack does around each call into a core ---

    def message(self, now, peer, payload):
        self.overlay.message(now, peer, payload)
        self._settle(now)

    def query(self, now, peer, payload):
        answer = self.overlay.query(now, peer, payload)
        self._settle(now)
        return answer

    def handle_timer(self, now):
        self.overlay.handle_timer(now)
        self.directory.handle_timer(now)
        self.announcer.renew(now)
        if (pulse := self.announcer.beat(now)) is not None:
            self._pulse(now, pulse)
        self._settle(now)

    def next_deadline(self):
        cores = (self.overlay, self.directory)
        deadlines = [*(core.next_deadline() for core in cores), self.announcer.due()]
        return min((when for when in deadlines if when is not None), default=None)

    def busy(self):
        def tell(now):
            if (pulse := self.announcer.busy(now)) is not None:
                self._pulse(now, pulse)

        self.do(tell)

    def _pulse(self, now, pulse):
        self.overlay.pulses.take(now, self.id, [pulse])
        self.overlay.pulse(now, [pulse])

    def _settle(self, now):
        if self.announcer.seq > self.said:
            self.said = self.announcer.seq
            self.overlay.broadcast(now, self.announcer.advert)
            self.directory.say(now, self.said, self.announcer.advert)
        for event in self.overlay.drain():
            match event:
                case Broadcast(id=broadcast, source=source, data=data):
                    is_news = self.directory.offer(now, data, source)
                    tell = self.overlay.accept if is_news else self.overlay.refuse
                    tell(now, broadcast)
                case NeighboursChanged(neighbours=neighbours):
                    self.directory.neighbours(now, neighbours)
        for event in self.directory.drain():
            self.events.append(event)
            if isinstance(event, SayAgain):
                self.overlay.broadcast(now, event.advert)


class Parish:
    """A dev network whose first households are those of its settings."""

    def __init__(self, seed=1, *, loss=0.0, first=2):
        entropy = seeded(seed)
        self.world = MessageWorld(entropy.fork("world"), Network(entropy.fork("net"), loss=loss))
        self.records, self.seats = Directory(), {}
        self.first = [Identity(number.to_bytes(32, "big")).id for number in range(first)]

    @property
    def now(self):
        return self.world.now

    def run(self, seconds):
        self.world.run(self.now + seconds)

    def wait(self, condition, within):
        """Seconds until something holds."""
        since = self.now
        while not condition():
            self.run(0.1)
            assert self.now - since <= within
        return self.now - since

    def relay(self, number):
        return Household(self, number, Fields(roles=Role.RELAY))

    def worker(self, number):
        return Household(self, number, Fields(roles=Role.WORKER))

    def client(self, number):
        return Household(self, number)
