"""How a server fetches from another what it lacks: each does, so that both have the same after it.

The flood of adverts leaves a few servers out each time; exchanges of the lists of a recent cut with
one random neighbour after the other find those within the margin.
"""

from collections.abc import Callable
from typing import Final

from p2p.identity import AdnlId
from p2p.overlay.advert import Advert, Digest
from p2p.overlay.asking import TOGETHER, Asking
from p2p.overlay.snapshot import Snapshot, differing

MOST: Final = 16_384
"""adverts fetched in one exchange: a network that we have missed; the rest 30 s later."""


async def exchange(
    asking: Asking,
    peer: AdnlId,
    ours: Snapshot,
    held: Callable[[Digest], Advert | None],
    into: list[bytes],
) -> bool:
    """Compare roots, and fetch what we lack; whether the lists were equal. The peer does the same.

    Raises what its calls raise; what came before that is in `into` all the same.
    """
    rooted = await asking.root(peer, ours.cut, ours.root)
    if rooted.root == ours.root:
        return True
    await fetch(asking, peer, ours, held, into)
    return False


async def fetch(
    asking: Asking,
    peer: AdnlId,
    ours: Snapshot,
    held: Callable[[Digest], Advert | None],
    into: list[bytes],
) -> None:
    """Fetch what a peer lists and we lack, as above."""
    numbers = differing(ours.buckets, await asking.buckets(peer, ours.cut))
    if not numbers:
        return
    items = await asking.items(peer, ours.cut, numbers)
    missing = [item.digest for item in items if held(item.digest) is None][:MOST]
    for begin in range(0, len(missing), TOGETHER):
        into += await asking.adverts(peer, missing[begin : begin + TOGETHER])
