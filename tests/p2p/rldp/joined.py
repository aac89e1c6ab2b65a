"""RLDP2 above ADNL, as a stack will have them, for the tests of both together."""

from p2p.adnl.core import AdnlCore
from p2p.adnl.events import Message
from p2p.identity import Identity
from p2p.rldp.core import RldpCore
from p2p.rldp.events import Payload, Query


class Joined:
    """One core of two, which answers each query by `answers`."""

    def __init__(self, seed, entropy, started_at, answers=bytes.upper):
        self.identity = Identity(bytes([seed]) * 32)
        self.id = self.identity.id
        self.adnl = AdnlCore([self.identity], entropy, started_at)
        self.rldp = RldpCore(entropy)
        self.answers = answers
        self._now = 0.0

    def query(self, now, peer, data, **limits):
        self._now = now
        return self.rldp.query(now, peer, data, **limits)

    def receive(self, now, source, datagram):
        self._now = now
        self.adnl.receive(now, source, datagram)

    def handle_timer(self, now):
        self._now = now
        self.adnl.handle_timer(now)
        self.rldp.handle_timer(now)

    def next_deadline(self):
        times = (self.adnl.next_deadline(), self.rldp.next_deadline())
        return min((when for when in times if when is not None), default=None)

    def drain(self):
        sends, events = [], []
        while True:
            said, told = self.adnl.drain()
            sends += said
            for event in told:
                if isinstance(event, Message):
                    self.rldp.receive(self._now, event.peer, event.payload)
            outputs = self.rldp.drain()
            if not told and not outputs:
                return sends, events
            for output in outputs:
                self._do(output, events)

    def _do(self, output, events):
        match output:
            case Payload(peer, data):
                self.adnl.send(self._now, self.id, peer, data)
            case Query():
                self.rldp.answer(self._now, output.token, self.answers(output.data))
            case _:
                events.append(output)

    def sizes(self):
        return {**self.adnl.sizes(), **self.rldp.sizes()}
