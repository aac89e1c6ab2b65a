"""One operator that lists many nodes, since names are free and addresses are not.

Who shares a /16 block of addresses is taken for one operator: on a path there is one of them at
most, and among workers they have one slot. So what a Sybil gets for its nodes depends on how many
blocks it has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from p2p.entropy import Entropy
from p2p.onion.path import Role
from simulations.reading import Between
from simulations.register import MODEL, Member, address, blocks, member


@dataclass(frozen=True, slots=True, kw_only=True)
class Sybil:
    """What an experiment says of it."""

    relays: Annotated[int, Between(0, 10_000)] = 0
    workers: Annotated[int, Between(0, 10_000)] = 0
    blocks: Annotated[int, Between(1, 10_000)] = 1
    """of /16 that its nodes are spread over evenly"""

    def members(self, numbers: Iterator[int], entropy: Entropy) -> Iterator[Member]:
        """All of them, numbered from here on; relays first."""
        own = blocks(entropy, self.blocks)
        for host in range(self.relays + self.workers):
            place = address(own[host % len(own)], 1 + host // len(own))
            if host < self.relays:
                yield member(next(numbers), Role.RELAY, place)
            else:
                yield member(next(numbers), Role.WORKER, place, model=MODEL)
