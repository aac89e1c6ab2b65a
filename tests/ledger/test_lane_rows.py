"""Lanes in the store come back as they were."""

from dataclasses import replace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ledger import lane_rows
from ledger.lane import Account, LaneConfig, LaneRow, Phase, Role
from ledger.money import MAX_NANO, Nano
from ledger.store import Store
from p2p.identity import AdnlId

amounts = st.integers(0, MAX_NANO).map(Nano)
keys = st.binary(min_size=32, max_size=32)
times = st.floats(0, 2**40)
configs = st.builds(
    LaneConfig,
    payer_key=keys,
    payee_key=keys,
    payer=keys.map(Account),
    payee=keys.map(Account),
    network=st.integers(-(2**31), 2**31 - 1),
    lane_id=st.integers(0, 2**64 - 1),
    close_delay=st.integers(0, 2**32 - 1),
    min_claim=amounts,
)
rows = st.builds(
    LaneRow,
    lane=keys,
    role=st.sampled_from(Role),
    config=configs,
    phase=st.sampled_from(Phase),
    cumulative=amounts,
    sig=st.binary(max_size=64),
    deposit=amounts,
    claimed=amounts,
    balance=amounts,
    close_at=st.integers(0, 2**32),
    seen_at=times,
    opened_at=times,
    claimed_at=times,
    poor_since=times,
    valid_until=st.integers(0, 2**32),
)


@given(rows, rows)
def test_a_row_comes_back_and_is_replaced(first: LaneRow, second: LaneRow):
    async def main() -> None:
        async with Store.open(None) as store:
            await store.write(lambda c: lane_rows.save(c, first, AdnlId(bytes(32))))
            assert await store.read(lambda c: lane_rows.load(c, first.lane)) == first
            if second.lane != first.lane:
                await store.write(lambda c: lane_rows.save(c, second))
                assert await store.read(lambda c: lane_rows.load(c, second.lane)) == second

    trio.run(main)


async def test_the_peer_once_known_stays_known(autojump_clock):
    row = _row(b"a", Role.PAYER)
    async with Store.open(None) as store:
        await store.write(lambda c: lane_rows.save(c, row, AdnlId(b"p" * 32)))
        await store.write(lambda c: lane_rows.save(c, row))
        assert await store.read(lambda c: lane_rows.peer(c, row.lane)) == b"p" * 32
        assert await store.read(lambda c: lane_rows.load(c, b"x" * 32)) is None


async def test_lanes_are_found_by_role_and_peer(autojump_clock):
    payer, payee = _row(b"a", Role.PAYER), _row(b"b", Role.PAYEE)
    async with Store.open(None) as store:
        await store.write(lambda c: lane_rows.save(c, payer, AdnlId(b"p" * 32)))
        await store.write(lambda c: lane_rows.save(c, payee))
        every = lane_rows.every
        assert await store.read(lambda c: list(every(c, Role.PAYER))) == [payer]
        assert await store.read(lambda c: list(every(c, Role.PAYEE))) == [payee]
        assert not await store.read(lambda c: list(every(c, Role.PAYER, of=AdnlId(b"q" * 32))))
        assert await store.read(lambda c: list(every(c, Role.PAYER, of=AdnlId(b"p" * 32))))


@pytest.mark.parametrize("phase", Phase)
async def test_lanes_that_are_closed_can_be_left_out(autojump_clock, phase):
    row = replace(_row(b"a", Role.PAYER), phase=phase)
    async with Store.open(None) as store:
        await store.write(lambda c: lane_rows.save(c, row))
        assert await store.read(lambda c: list(lane_rows.every(c, Role.PAYER))) == [row]
        found = await store.read(lambda c: list(lane_rows.every(c, Role.PAYER, live=True)))
        assert found == ([row] if row.live else [])


def _row(name: bytes, role: Role) -> LaneRow:
    config = LaneConfig(
        payer_key=bytes(32),
        payee_key=bytes(32),
        payer=Account(bytes(32)),
        payee=Account(bytes(32)),
        network=-4242,
        lane_id=1,
        close_delay=86_400,
        min_claim=Nano(0),
    )
    return LaneRow(lane=name * 32, role=role, config=config, phase=Phase.OPEN)
