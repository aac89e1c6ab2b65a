"""Overlays over real UDP on loopback: a core on ADNL, a socket and a driver each."""

import trio

from p2p.adnl.core import AdnlCore
from p2p.adnl.events import Answered, Failed, Message, Query
from p2p.core import Mailbox, Procedures
from p2p.drive import Driver
from p2p.entropy import SystemEntropy
from p2p.errors import AnswerTooBig
from p2p.identity import Identity
from p2p.overlay.core import PREFIXES, Broadcast, OverlayCore
from p2p.overlay.settings import DEV
from p2p.sender import MAX_DATAGRAM_PAYLOAD
from p2p.transport.udp import UdpTransport
from p2p.wire import Endpoint

NETWORK = -7

PATIENCE = 90.0
"""seconds: other processes on a busy machine take some to start"""


class Stack:
    """An overlay on ADNL and nothing else, in the form that a driver drives."""

    def __init__(self, identity, started_at):
        self.identity = identity
        self.adnl = AdnlCore([identity], SystemEntropy(), started_at)
        self.procedures = Procedures()
        self.overlay = OverlayCore(
            identity, self, self.procedures, SystemEntropy(), network=NETWORK, settings=DEV
        )
        self.waiting = {}
        self.sends, self.events = [], []
        self.now = 0.0

    # Sender

    def send(self, peer, payload):
        self.adnl.send(self.now, self.identity.id, peer, payload)

    async def query(self, peer, payload, *, timeout, max_answer=MAX_DATAGRAM_PAYLOAD):  # noqa: ASYNC109
        ticket = self.adnl.query(self.now, self.identity.id, peer, payload, timeout)
        mailbox = self.waiting[ticket] = Mailbox()
        answer = await mailbox.get()
        if isinstance(answer, Exception):
            raise answer
        if len(answer) > max_answer:
            raise AnswerTooBig("more than was asked for")
        return answer

    def learn(self, public, addresses):
        self.adnl.add_peer(self.now, public, addresses)

    # Core

    def receive(self, now, source, datagram):
        self.now = now
        self.adnl.receive(now, source, datagram)
        self.settle(now)

    def handle_timer(self, now):
        self.now = now
        self.adnl.handle_timer(now)
        self.overlay.handle_timer(now)
        self.settle(now)

    def next_deadline(self):
        deadlines = (self.adnl.next_deadline(), self.overlay.next_deadline())
        return min((when for when in deadlines if when is not None), default=None)

    def settle(self, now):
        while True:
            self.procedures.run()
            sends, events = self.adnl.drain()
            self.sends += sends
            self.events += self.overlay.drain()
            if not events:
                return
            for event in events:
                self.handle(now, event)

    def handle(self, now, event):
        match event:
            case Message(payload=payload) if payload[:4] in PREFIXES:
                self.overlay.message(now, event.peer, payload)
            case Query(payload=payload, token=token):
                answer = None
                if payload[:4] in PREFIXES:
                    answer = self.overlay.query(now, event.peer, payload)
                self.adnl.answer(now, token, answer)
            case Answered(ticket, payload):
                self.waiting.pop(ticket).put(payload)
            case Failed(ticket, error):
                self.waiting.pop(ticket).put(error)

    def drain(self):
        self.settle(self.now)
        sends, self.sends = self.sends, []
        events, self.events = self.events, []
        return sends, events

    def sizes(self):
        return {}


class Bell:
    """Wakes who waits for something, whenever anything has happened."""

    def __init__(self):
        self._event = trio.Event()

    def ring(self):
        self._event.set()
        self._event = trio.Event()

    async def until(self, condition):
        with trio.fail_after(PATIENCE):
            while not condition():
                await self._event.wait()


class Node:
    """A stack on a socket of its own, which accepts every broadcast and remembers it."""

    def __init__(self, clock, bell, seed):
        self.bell = bell
        self.identity = Identity(bytes([seed]) * 32)
        self.id, self.key = self.identity.id, self.identity.public.hex()
        self.transport = UdpTransport([Endpoint("127.0.0.1", 0)])
        self.endpoint = self.transport.endpoints[0]
        self.stack = Stack(self.identity, int(clock.now()))
        self.driver = Driver(self.stack, self.transport, self, clock)
        self.heard = {}

    def handle(self, now, event):
        if isinstance(event, Broadcast):
            self.heard[event.data.decode()] = event
            self.do(lambda stack, now: stack.overlay.accept(now, event.id))
        self.bell.ring()

    def do(self, action):
        def act(stack, now):
            stack.now = now
            action(stack, now)

        self.driver.call("do", act)

    @property
    def members(self):
        return self.stack.overlay.members
