"""Which workers a request may go to, and the uniform choice among them."""

from dataclasses import dataclass
from typing import final

from p2p.identity import AdnlId


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A model that people have a name for: what a catalogue says of it."""

    base: str
    """Its name, such as `smollm2-135m-instruct`."""
    quant: str
    """Its quantisation, such as `q4_1`."""
    file: bytes
    """SHA-256 of the file: what a pinned name pins."""
    identity: bytes
    """What adverts and offers carry: file and chat template together."""
    rank: int = 0
    """`auto` takes the highest that enough workers serve."""

    @property
    def name(self) -> str:
        """The full name, `base@quant:sha256`."""
        return f"{self.base}@{self.quant}:{self.file.hex()}"


@final
class Memory:
    """Whom this process does not ask again for a while; one per node, shared by all its asks."""

    def excluded(self, now: float, worker: AdnlId, group: bytes) -> bool:
        """Whether a worker is cooling off or banned."""
        raise NotImplementedError
