"""A DHT node over ADNL and nothing else, as a core: what a stack is, without all the rest."""

from typing import NamedTuple

from p2p.adnl.address import to_endpoint
from p2p.adnl.core import AdnlCore
from p2p.adnl.events import Answered, Failed, Message, Query
from p2p.core import Mailbox, Procedures
from p2p.dht.core import DhtCore


class Ended(NamedTuple):
    """A procedure has ended."""

    answer: object
    result: object


class AdnlNode:
    """Joins the two cores; it is the `Sender` of the upper one."""

    def __init__(self, identity, entropy, started_at, *, settings, limits, network=None):
        self.identity = identity
        self.procedures = Procedures()
        self.adnl = AdnlCore([identity], entropy, int(started_at), limits=limits)
        self.dht = DhtCore(
            identity,
            self,
            self.procedures,
            entropy,
            started_at=started_at,
            network=network,
            settings=settings,
        )
        self._now = started_at
        self._waiting = {}
        self._sends = []
        self._ended = []

    # --- Sender ---

    async def query_at(self, peer, address, payload, *, timeout):  # noqa: ASYNC109 (the seam)
        ticket = self.adnl.query(
            self._now, self.identity.id, peer, payload, timeout, at=to_endpoint(address)
        )
        mailbox = self._waiting[ticket] = Mailbox()
        try:
            ended = await mailbox.get()
        finally:
            del self._waiting[ticket]
            self.adnl.forget(self._now, ticket)
        if isinstance(ended, Failed):
            raise ended.error
        return ended.payload

    def learn(self, public, addresses):
        self.adnl.add_peer(self._now, public, addresses)

    # --- Core ---

    def receive(self, now, source, datagram):
        self._now = now
        self.adnl.receive(now, source, datagram)
        self._settle()

    def handle_timer(self, now):
        self._now = now
        for core in (self.adnl, self.dht):
            deadline = core.next_deadline()
            if deadline is not None and deadline <= now:
                core.handle_timer(now)
        self._settle()

    def next_deadline(self):
        deadlines = (self.adnl.next_deadline(), self.dht.next_deadline())
        return min((when for when in deadlines if when is not None), default=None)

    def drain(self):
        sends, self._sends = self._sends, []
        ended, self._ended = self._ended, []
        return sends, self.dht.drain() + ended

    def sizes(self):
        return self.adnl.sizes() | self.dht.sizes()

    def start(self, now, coroutine, answer):
        """Run a procedure of the DHT's: `Ended` with what it returned goes to `answer`."""
        self._now = now

        async def run():
            result = await coroutine
            self._ended.append(Ended(answer, result))

        self.procedures.start(run())
        self._settle()

    def _settle(self):
        while True:
            self.procedures.run()
            sends, events = self.adnl.drain()
            self._sends += sends
            if not events:
                return
            for event in events:
                self._handle(event)

    def _handle(self, event):
        match event:
            case Message(peer=peer, payload=payload):
                self.dht.message(self._now, peer, payload)
            case Query(peer=peer, payload=payload, token=token):
                self.adnl.answer(self._now, token, self.dht.query(self._now, peer, payload))
            case Answered(ticket=ticket) | Failed(ticket=ticket):
                if ticket in self._waiting:
                    self._waiting[ticket].put(event)
            case _:
                pass
