"""Collecting change: each session's over a circuit of its own, at a moment of its own.

A mint that gave change to one circuit twice, or to two that came together, would know that both
were one asker's. So every session draws its own moment, also after a restart that finds many of
them due, and between two circuits there is a pause.
"""

import math
from collections.abc import Callable, Iterable
from typing import Final, final

import structlog
import trio

from ledger import coins, pins, wire
from ledger.coins import Session
from ledger.credit import Keyset
from ledger.line import Line, Refused, opened
from ledger.messages import Change, Changed, Code, Err, KeysetList, Keysets, Pending
from ledger.mints import Mints
from ledger.policy import Policy
from ledger.store import Store
from p2p.drive import Clock
from p2p.entropy import Entropy
from p2p.errors import BadSignature, LocalError, TussahError
from p2p.identity import AdnlId
from p2p.node import Node

RETRY_FIRST: Final = 2.0
RETRY_LAST: Final = 300.0
"""seconds before a mint that could not be reached is asked again: doubled, first to last, and half
as much again or less, at random"""

log = structlog.get_logger()


@final
class Collecting:
    """See the module. `take_up` first, then `run`; `fetched` is told of each change."""

    def __init__(
        self,
        node: Node,
        store: Store,
        seed: bytes,
        policy: Policy,
        mints: Mints,
        clock: Clock,
        *,
        entropy: Entropy,
        relays: int,
        fetched: Callable[[], object],
    ) -> None:
        self._node = node
        self._store = store
        self._seed = seed
        self._policy = policy
        self._mints = mints
        self._clock = clock
        self._entropy = entropy
        self._relays = relays
        self._fetched = fetched
        self._more = trio.Event()
        self._retry: dict[bytes, float] = {}

    def due(self, expiry: int, *, locked: bool) -> float:
        """When to ask for the change of a session that is over now.

        One that was perhaps locked, though nobody has shown us, is so until it expires.
        """
        now = self._clock.now()
        return self._soon_after(now if locked else max(now, expiry + self._policy.final_delay))

    def wake(self) -> None:
        """A session has ended, and that is in the store."""
        self._more.set()

    async def take_up(self) -> None:
        """What a stop cut off is over, and what is due is not due at once. Raises `LocalError`."""
        now = self._clock.now()
        sessions = await self._store.read(coins.unfinished)
        dues = {session: self._soon_after(now) for session in sessions}
        await self._store.write(lambda c: coins.abandoned(c, dues))

    async def run(self) -> None:
        """Fetch each change when it is due, until cancelled."""
        while True:
            try:
                await self._next()
            except LocalError as error:  # the disk: the store has logged it, and keeps the session
                log.info("change.waits", reason=str(error))
                await trio.sleep(RETRY_FIRST)

    async def _next(self) -> None:
        self._more = trio.Event()
        session = await self._store.read(coins.next_over)
        if session is not None and session.due <= self._clock.now():
            await self._fetch(session)
            await trio.sleep(self._between(*self._policy.change_pause))
            return
        wake = math.inf if session is None else self._clock.trio_time(session.due)
        with trio.move_on_at(wake):
            await self._more.wait()

    async def _fetch(self, session: Session) -> None:
        """One try; what fails is tried again, with growing pauses. Raises `LocalError`."""
        try:
            async with opened(self._node, session.mint, relays=self._relays) as line:
                await self._change(line, session)
        except Refused as error:
            await self._refused(session, error)
        except TussahError as error:
            log.info("change.postponed", reason=str(error))
            await self._postpone(session)
        else:
            self._retry.pop(session.session, None)
            self._fetched()

    async def _change(self, line: Line, session: Session) -> None:
        body = await line.call(wire.encode(Change(session.lock, session.secret)))
        match wire.read_reply(body):
            case Changed() as reply:
                await self._take(line, session, reply, body)
            case Pending(until=until):
                soonest = self._clock.now() + RETRY_FIRST
                await self._put_off(session, max(soonest, self._soon_after(until)))
            case Err() as err:
                raise Refused(err)
            case _:
                raise BadSignature("the mint gave no answer to what was asked")

    async def _take(self, line: Line, session: Session, reply: Changed, body: bytes) -> None:
        keyset = await self._keyset(line, session)
        try:
            back = await self._store.write(
                lambda c: coins.changed(c, self._seed, keyset, session, reply)
            )
        except BadSignature:
            self._mints.accused |= {session.mint}
            log.warning("mint.accused")
            await self._store.write(lambda c: pins.accuse(c, session.mint, session.session, body))
            raise
        is_short = back < coins.least_change(session, reply.paid_ticks)
        if is_short or reply.paid_ticks > session.revealed:
            log.warning("mint.short_change", got=back.value)
        elif reply.paid_ticks > session.owed:  # the row and the receipt are the evidence
            log.warning("worker.overcharged", ticks=reply.paid_ticks, billed=session.owed)
        log.info("change.fetched", nano=back.value)

    async def _keyset(self, line: Line, session: Session) -> Keyset:
        """The one that the coins of a session were bought with."""
        mint, epoch, public = session.mint, session.epoch, self._mints.listed(session.mint).public
        keyset = await self._store.read(lambda c: pins.pinned(c, mint, epoch, public))
        return keyset or await self._first_seen(line, mint, epoch, public)

    async def _first_seen(self, line: Line, mint: AdnlId, epoch: int, public: bytes) -> Keyset:
        """For coins that a program without pins has bought: held to from now on."""
        shown = (await line.ask(Keysets(), KeysetList)).keysets
        keyset = _of(epoch, (Keyset.parse(signed, public) for signed in shown))
        if keyset is None or not await self._store.write(lambda c: pins.pin(c, keyset)):
            raise BadSignature("the mint does not show the keyset that it sold")
        return keyset

    async def _refused(self, session: Session, error: Refused) -> None:
        """A mint that never locked the session, and cannot any more, has our coins still live."""
        known = session.expiry + self._policy.unknown_after
        if error.code is not Code.UNKNOWN_LOCK:
            log.warning("change.refused", code=error.code.value)
            await self._postpone(session)
        elif self._clock.now() < known:
            await self._put_off(session, self._soon_after(known))
        else:
            await self._store.write(lambda c: coins.release(c, session.session))

    async def _postpone(self, session: Session) -> None:
        wait = min(RETRY_LAST, 2 * self._retry.get(session.session, RETRY_FIRST / 2))
        self._retry[session.session] = wait
        await self._put_off(session, self._clock.now() + self._between(wait / 2, wait * 3 / 2))

    async def _put_off(self, session: Session, due: float) -> None:
        await self._store.write(lambda c: coins.postpone(c, session.session, due))

    # --- moments ---

    def _soon_after(self, when: float) -> float:
        return when + self._between(*self._policy.change_delay)

    def _between(self, least: float, most: float) -> float:
        return least + (most - least) * self._entropy.uniform()


def _of(epoch: int, keysets: Iterable[Keyset]) -> Keyset | None:
    return next((keyset for keyset in keysets if keyset.epoch == epoch), None)
