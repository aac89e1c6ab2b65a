"""After a loss: lanes from the chain and credits from the mints, by the wallet's words alone.

Every lane of ours began with a transfer of our wallet that brought its terms along, so the wallet's
history names them all. How much was promised on them nobody can prove any more: all of it counts as
promised, and they are closed. Each credit's secret comes from the seed and a number, so a mint that
is shown the blinded points says which of them it signed; whether they were spent since, swaps tell
(`ledger/renewing.py`). Spends and purchases in between used up numbers, so a gap is no end.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias, final

import structlog
import trio

from ledger import coins, credit, lane_rows, pins
from ledger.backup import Backup, Promise
from ledger.chain.base import Chain, Contract, Status, Tx
from ledger.contracts import cells
from ledger.credit import Keyset
from ledger.keys import Master
from ledger.lane import Account, LaneConfig, LaneRow, LaneState, PayeeLane, PayerLane
from ledger.lanes import Lanes
from ledger.line import Refused, opened
from ledger.messages import MAX_RESTORE, KeysetList, Keysets, Restore, Restored
from ledger.mints import Mints
from ledger.money import ZERO
from ledger.policy import Policy
from ledger.store import Connection, Store
from p2p.entropy import Entropy
from p2p.errors import BadSignature, Closing, Insufficient, TussahError
from p2p.identity import AdnlId
from p2p.node import Node

GAP: Final = 1_000
"""numbers in a row of which a mint signed none, after which there are no more: each spend uses up
to 18 on blanks that may stay unsigned"""

AGAIN: Final = 15.0
"""seconds until a chain or mint that did not answer is asked again"""

log = structlog.get_logger()


# --- lanes ---


def begun(history: Sequence[Tx], master: Master, wallet: Account) -> Iterator[LaneConfig]:
    """The lanes that a wallet's transactions brought to life: those that we can sign for."""
    for tx in history:
        for message in tx.outgoing:
            config = None if message.init is None else cells.read_init(message.init)
            if config is None or config.payer != wallet:
                continue
            if message.dest == cells.lane_address(config) and _is_ours(config, master):
                yield config


def _is_ours(config: LaneConfig, master: Master) -> bool:
    return config.payer_key == master.payer(config.lane_id).public


async def find_lanes(chain: Chain, master: Master, wallet: Account) -> dict[bytes, LaneConfig]:
    """Every lane that our wallet ever opened, by address. Raises what the chain does."""
    found: dict[bytes, LaneConfig] = {}
    after = 0
    while page := await chain.transactions(wallet, after):
        after = page[-1].lt
        found |= {cells.lane_address(config): config for config in begun(page, master, wallet)}
    return found


def _held(promise: Promise, contract: Contract, now: float) -> LaneRow:
    """A lane to us with the voucher that a backup kept."""
    held = promise.voucher
    payee = PayeeLane.new(promise.config, held, _state(contract, now))
    return replace(payee.row, cumulative=held.cumulative, sig=held.sig)


def _state(contract: Contract, now: float) -> LaneState:
    data = cells.read_data(contract.data) if contract.data is not None else None
    assert data is not None, "an active account has data"
    return LaneState(
        claimed=data.claimed,
        close_at=data.close_at,
        balance=contract.balance,
        seen_at=now,
        lt=contract.last_lt,
    )


def _kept(config: LaneConfig, contract: Contract, now: float) -> LaneRow:
    """A lane as if all that is on it were promised; never topped up, nor opened again."""
    payer = PayerLane.new(config, cells.lane_address(config), ZERO)
    payer.opening()
    payer.on_chain(_state(contract, now), now)
    return replace(payer.row, cumulative=payer.row.claimed + payer.row.spare)


def _keep(connection: Connection, row: LaneRow, peer: AdnlId | None = None) -> None:
    if lane_rows.load(connection, row.lane) is None:
        lane_rows.save(connection, row, peer)


_Part: TypeAlias = Callable[[], Awaitable[None]]


# --- all of it ---


@final
class Restoring:
    """See the module. Done again from the start, it finds the same and changes nothing."""

    def __init__(
        self,
        node: Node,
        chain: Chain,
        store: Store,
        lanes: Lanes,
        master: Master,
        policy: Policy,
        mints: Mints,
        *,
        entropy: Entropy,
        relays: int,
    ) -> None:
        self._node = node
        self._chain = chain
        self._store = store
        self._lanes = lanes
        self._master = master
        self._policy = policy
        self._mints = mints
        self._entropy = entropy
        self._relays = relays

    async def run(self, backup: Backup | None = None) -> None:
        """Find all there is, and take up what a backup has besides, until cancelled.

        What does not answer is asked again.
        """
        if backup is not None:
            await self._until_done(partial(self._take_up, backup))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_done, self._find_lanes)
            for mint in self._mints.trusted:
                nursery.start_soon(self._until_done, partial(self._find_credits, mint))

    async def _until_done(self, part: _Part) -> None:
        while True:
            try:
                await part()
            except (TussahError, Refused) as error:
                log.info("restore.waits", reason=str(error))
                await trio.sleep(AGAIN)
            else:
                return

    # --- lanes ---

    async def _find_lanes(self) -> None:
        found = await find_lanes(self._chain, self._master, self._lanes.account)
        await self._lanes.costs()  # which hears what time it is on the chain
        for lane, config in found.items():
            contract = await self._chain.account(Account(lane))
            if contract is not None and contract.status is Status.ACTIVE:
                row = _kept(config, contract, self._lanes.now)
                await self._store.write(partial(_keep, row=row))
                await self._close(lane)
        log.info("restore.lanes", found=len(found))

    async def _take_up(self, backup: Backup) -> None:
        """Vouchers, where the chain still has their lanes; what is due is claimed as ever."""
        await self._lanes.costs()
        await self._store.write(lambda c: coins.counted(c, backup.counters))
        for promise in backup.promises:
            lane = cells.lane_address(promise.config)
            contract = await self._chain.account(lane)
            if contract is None or contract.status is not Status.ACTIVE:
                continue
            if lane == promise.voucher.lane:
                row = _held(promise, contract, self._lanes.now)
                await self._store.write(partial(_keep, row=row, peer=promise.peer))
        log.info("restore.vouchers", found=len(backup.promises))

    async def _close(self, lane: bytes) -> None:
        """What its payee was promised it can still claim; the rest is ours again."""
        try:
            await self._lanes.start_close(lane)
        except Closing:
            pass
        except Insufficient as error:  # its owner will find it among the lanes
            log.warning("restore.poor", reason=str(error))

    # --- credits ---

    async def _find_credits(self, mint: AdnlId) -> None:
        for keyset in await self._keysets(mint):
            await self._find_epoch(keyset)

    async def _keysets(self, mint: AdnlId) -> list[Keyset]:
        """All that live, each held to from now on; the newest is the one that everybody sees."""
        advert = self._mints.listed(mint)
        async with opened(self._node, mint, relays=self._relays) as line:
            shown = (await line.ask(Keysets(), KeysetList)).keysets
        keysets = [Keyset.parse(signed, advert.public) for signed in shown]
        if not keysets or keysets[-1].digest != advert.fields.mint:
            raise BadSignature("the mint shows us another keyset than the directory has")
        for keyset in keysets:
            if not await self._store.write(partial(pins.pin, keyset=keyset)):
                raise BadSignature("the mint has signed two keysets for one week")
        return keysets

    async def _find_epoch(self, keyset: Keyset) -> None:
        start = last = total = 0
        while start - last < GAP:
            numbers = range(start, start + MAX_RESTORE)
            found = await self._ask(keyset, numbers)
            start = numbers.stop
            if found:
                last, total = start, total + found
            await trio.sleep(self._between(*self._policy.change_pause))
        log.info("restore.credits", epoch=keyset.epoch, found=total)

    async def _ask(self, keyset: Keyset, numbers: range) -> int:
        """One batch over one circuit; how many of it were signed."""
        seed = self._master.credit_seed
        blinds = {
            credit.blind(*credit.derive(seed, keyset.mint, keyset.epoch, i)): i for i in numbers
        }
        async with opened(self._node, keyset.mint, relays=self._relays) as line:
            reply = await line.ask(Restore(tuple(blinds)), Restored)
        signed = {blinds[B]: (j, s) for B, j, s in sorted(reply.found) if B in blinds}
        await self._store.write(lambda c: coins.restored(c, seed, keyset, numbers, signed))
        return len(signed)

    def _between(self, least: float, most: float) -> float:
        return least + (most - least) * self._entropy.uniform()
