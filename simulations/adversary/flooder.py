"""Somebody who asks for more than anybody could use, and uses nothing of it.

Every table that it can fill has a bound, and what is full is refused; an honest asker among them
meets a worker, a node or a relay that is busy, and goes to another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import trio

from inference import protocol
from inference.protocol import PLAIN, Want, Work
from p2p import tl
from p2p.dht.asking import MAX_ANSWER
from p2p.entropy import Entropy, choice, exponential
from p2p.identity import AdnlId
from p2p.ton import DhtFindNode
from simulations.faces import Face
from simulations.reading import Between

SIZE_CLASS: Final = 6
"""log2 of the tokens that it pretends to have"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flooder:
    """What an experiment says of them."""

    rate: Annotated[float, Between(0.01, 10_000.0)] = 20.0
    """wants, queries or circuits a second, of each node"""
    seconds: Annotated[float, Between(0.0, 1e6)] = 30.0
    """that it lasts, from the start of the node"""


async def want_offers(
    face: Face,
    workers: Sequence[AdnlId],
    wanted: Callable[[bytes], Want],
    flooder: Flooder,
    entropy: Entropy,
) -> None:
    """Have workers make offers, take none of them, and leave every circuit open to the end."""
    circuits, end = [], trio.current_time() + flooder.seconds
    while trio.current_time() < end:
        await trio.sleep(exponential(entropy, 1.0 / flooder.rate))
        path = face.path(choice(entropy, workers))
        circuits.append(face.open(path, PLAIN + wanted(entropy.token(16)).encode()))
    for circuit in circuits:
        face.close(circuit)


def want(identity: bytes, mint: AdnlId, most_tokens: int) -> Callable[[bytes], Want]:
    """What an honest asker would want, with a nonce of its own."""
    return lambda nonce: protocol.Want(
        work=Work.TEXT,
        identity=identity,
        nonce=nonce,
        size_class=SIZE_CLASS,
        max_tokens=most_tokens,
        mints=(mint,),
    )


def lookup(entropy: Entropy) -> bytes:
    """One query of a DHT, for the nodes nearest to nobody."""
    return tl.pack(DhtFindNode(entropy.token(32), MAX_ANSWER))
