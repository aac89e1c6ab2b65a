"""Asks other nodes the calls of `bodies`, and many of them at once; stepped by `Procedures`."""

from collections.abc import Coroutine, Sequence
from typing import Final, Protocol, TypeAlias, TypeVar, final

from p2p.core import Mailbox, Procedures
from p2p.errors import NoCapacity, RemoteError, Unreachable
from p2p.identity import AdnlId
from p2p.overlay import bodies
from p2p.overlay.advert import Digest
from p2p.overlay.bodies import Address, Item, Pulled, Rooted

CALL_TIMEOUT: Final = 10.0
"""seconds for a short answer."""

FETCH_TIMEOUT: Final = 30.0
"""seconds for a long one: 512 KiB over a line of 150 kbit/s."""

TOGETHER: Final = 400
"""adverts asked for at once: the call fits one that ADNL carries in parts."""

T = TypeVar("T")

Failure: TypeAlias = RemoteError | Unreachable | NoCapacity
"""What a call may come to instead of an answer."""

Failures: Final = (RemoteError, Unreachable, NoCapacity)


class Caller(Protocol):
    """Carries the body of a call to a peer, and that of its answer back; as `OverlayCore.call`."""

    async def __call__(
        self,
        peer: AdnlId,
        body: bytes,
        /,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol, as in `Sender.query`)
        max_answer: int,
    ) -> bytes:
        """Raises `Unreachable`, `RemoteError` and `NoCapacity`."""


@final
class Asking:
    """Each call raises what its `Caller` does, `Rejected`, and `CodecError` for a bad answer.

    `patience` is a factor of the time that a peer has to answer.
    """

    def __init__(self, caller: Caller, procedures: Procedures, patience: float = 1.0) -> None:
        self._caller = caller
        self._patience = patience
        self._procedures = procedures
        self.calls = 0
        """Calls made so far."""
        self.bytes_got = 0
        """Bytes that their answers had."""

    async def root(self, peer: AdnlId, cut: int, own: bytes) -> Rooted:
        """The size and the hash of a peer's list."""
        return bodies.read_rooted(await self._short(peer, bodies.Root(cut, own)))

    async def buckets(self, peer: AdnlId, cut: int) -> bytes:
        """The hashes of its buckets."""
        return bodies.read_buckets(await self._short(peer, bodies.Buckets(cut)))

    async def items(self, peer: AdnlId, cut: int, numbers: Sequence[int]) -> list[Item]:
        """What is in some of its buckets."""
        asked = bytes(numbers)
        body = await self._long(peer, bodies.List(cut, asked), bodies.MAX_LIST)
        return [item for items in bodies.read_list(body, asked) for item in items]

    async def adverts(self, peer: AdnlId, digests: Sequence[Digest]) -> list[bytes]:
        """Those of these adverts that it holds, as it says: at most `TOGETHER` at once."""
        body = await self._long(peer, bodies.Get(digests), bodies.MAX_GOT)
        return list(bodies.read_adverts(body))

    async def pull(self, peer: AdnlId, call: bodies.Pull) -> Pulled:
        """All adverts of the first of these buckets, as many as fit."""
        body = await self._long(peer, call, bodies.MAX_PULLED)
        return bodies.read_pulled(body, call)

    async def pulses(self, peer: AdnlId, first: int, last: int) -> bytes:
        """The newest pulses of the nodes in these buckets."""
        body = await self._long(peer, bodies.Pulses(first, last), bodies.MAX_PULSES)
        return bodies.read_pulses(body)

    async def whoami(self, peer: AdnlId) -> Address:
        """Where we seem to be."""
        return bodies.read_seen(await self._short(peer, bodies.Whoami()))

    async def probe(self, peer: AdnlId, nonce: bytes, address: Address) -> None:
        """Have a stranger reach us there."""
        bodies.read_done(await self._short(peer, bodies.Probe(nonce, address)))

    async def all_of(self, coroutines: Sequence[Coroutine[object, None, T]]) -> list[T | Failure]:
        """What each comes to, run side by side: its result, or the failure that it raised."""
        mailbox: Mailbox[tuple[int, T | Failure]] = Mailbox()
        for number, coroutine in enumerate(coroutines):
            self._procedures.start(_deliver(coroutine, number, mailbox))
        ended = [await mailbox.get() for _ in coroutines]
        return [outcome for _, outcome in sorted(ended, key=lambda one: one[0])]

    async def _short(self, peer: AdnlId, call: bodies.Call) -> bytes:
        return await self._ask(peer, call, CALL_TIMEOUT, bodies.MAX_SHORT)

    async def _long(self, peer: AdnlId, call: bodies.Call, most: int) -> bytes:
        return await self._ask(peer, call, FETCH_TIMEOUT, most)

    async def _ask(self, peer: AdnlId, call: bodies.Call, seconds: float, most: int) -> bytes:
        self.calls += 1
        seconds *= self._patience
        body = bodies.pack_call(call)
        answer = await self._caller(peer, body, timeout=seconds, max_answer=most)
        self.bytes_got += len(answer)
        return answer


async def _deliver(
    coroutine: Coroutine[object, None, T], number: int, mailbox: "Mailbox[tuple[int, T | Failure]]"
) -> None:
    try:
        mailbox.put((number, await coroutine))
    except Failures as failure:
        mailbox.put((number, failure))
