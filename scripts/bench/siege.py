"""What an honest peer notices of a node that is sent junk: the processor time of its queries.

Two nodes of the same make, each with one client that has a channel; one is besieged. Between two
queries it is sent a fixed amount of junk, outside of what is timed; the other is asked in the same
turn, so that noise of the machine meets both.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, final

from p2p.adnl import packet
from p2p.adnl.keys import KeyPair, to_curve
from p2p.identity import Identity
from p2p.tl import pack
from p2p.ton import (
    AdnlMessage,
    AdnlMessageAnswer,
    AdnlMessageCreateChannel,
    AdnlMessagePart,
    AdnlMessageReinit,
    AdnlPacketContents,
    DhtPing,
    PubEd25519,
)
from p2p.wire import Endpoint
from scripts.bench.ends import START, Client, Node

JUNK: Final = 10
"""datagrams of junk for each honest query"""

QUERIES: Final = 2_000

MET_ANEW: Final = 50
"""datagrams until the attacker is another node"""

PLACES: Final = tuple(Endpoint(f"198.51.100.{n}", n) for n in range(1, 64))

QUERY: Final = pack(DhtPing(7))


def measure() -> float:
    """The 99th percentile of an honest query under siege, as a multiple of that in peace."""
    peace, siege = Node(Identity(b"p" * 32), START), Node(Identity(b"s" * 32), START)
    ours, theirs = Client(1, peace), Client(2, siege)
    attack = datagrams(random.Random(1), siege.identity)  # noqa: S311 (the same junk each time)
    in_peace: list[int] = []
    under_siege: list[int] = []
    turns = [(ours, in_peace), (theirs, under_siege)]
    for number in range(QUERIES):
        for _ in range(JUNK):
            siege.receive(theirs.now, PLACES[number % len(PLACES)], next(attack))
        siege.drain()
        for client, times in turns:
            times.append(_time(client))
        turns.reverse()  # who is asked first finds the caches full of junk
    return _late(under_siege) / _late(in_peace)


def _time(client: Client) -> int:
    began = time.thread_time_ns()
    client.ask(QUERY)
    return time.thread_time_ns() - began


def _late(times: list[int]) -> int:
    return sorted(times)[len(times) * 99 // 100]


def datagrams(rng: random.Random, target: Identity) -> Iterator[bytes]:
    """Bytes of chance, good datagrams broken, good cryptography around junk, good packets around
    messages that are nobody's; without end, from one node after another.
    """
    while True:
        attacker = _Attacker(rng, target)
        yield attacker.last
        for _ in range(MET_ANEW):
            yield rng.choice((attacker.noise, attacker.broken, attacker.junk, attacker.packet))()


@final
class _Attacker:
    """One node that knows the protocol and breaks it."""

    def __init__(self, rng: random.Random, target: Identity) -> None:
        self._rng = rng
        self._target = target
        self._own = Identity(rng.randbytes(32))
        self._key = KeyPair(rng.randbytes(32))
        self._curve = to_curve(target.public)
        self._number = 0
        self.last = self._say(AdnlMessageCreateChannel(self._key.public, START))

    def noise(self) -> bytes:
        return self._target.id + self._rng.randbytes(self._rng.choice((0, 32, 100, 1_400)))

    def broken(self) -> bytes:
        at = self._rng.randrange(len(self.last))
        return self.last[:at] + bytes([self.last[at] ^ 1]) + self.last[at + 1 :]

    def junk(self) -> bytes:
        return self._seal(self._rng.randbytes(self._rng.choice((1, 32, 112, 1_000))))

    def packet(self) -> bytes:
        chance = self._rng.randbytes(32)
        messages = (
            AdnlMessageAnswer(chance, chance),
            AdnlMessagePart(chance, 8_000, 0, chance * 20),
            AdnlMessageReinit(START + 3_600),
            AdnlMessageCreateChannel(bytes(32), START),
        )
        self.last = self._say(self._rng.choice(messages))
        return self.last

    def _say(self, message: AdnlMessage) -> bytes:
        self._number += 1
        contents = AdnlPacketContents(
            self._rng.randbytes(7),
            from_=PubEd25519(self._own.public),
            messages=(message,),
            seqno=self._number,
            confirm_seqno=0,
            reinit_date=START,
            dst_reinit_date=0,
            rand2=self._rng.randbytes(15),
        )
        return self._seal(pack(replace(contents, signature=self._own.sign(pack(contents)))))

    def _seal(self, plain: bytes) -> bytes:
        return packet.seal_direct(self._key, self._target.id, self._curve, plain)
