"""Randomness by node: each draws from a stream of its own, so that no draw shifts another's."""

from typing import final

from p2p.entropy import Entropy


@final
class Streams:
    """The forks `kind/0`, `kind/1` ... of an entropy, made when they are asked for."""

    def __init__(self, entropy: Entropy, kind: str) -> None:
        self._entropy = entropy
        self._kind = kind
        self._made: dict[int, Entropy] = {}

    def of(self, node: int) -> Entropy:
        """The stream of a node."""
        made = self._made.get(node)
        if made is None:
            made = self._made[node] = self._entropy.fork(f"{self._kind}/{node}")
        return made
