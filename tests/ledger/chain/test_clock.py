"""The chain's time is carried on between blocks, and is the chain's again with the next one."""

import math

import pytest
import trio

from ledger.chain.base import Head
from ledger.chain.clock import ChainClock


class Blocks:
    """A chain that says what a test wants."""

    def __init__(self, time):
        self.newest = Head(seqno=1, time=time, lt=1)

    async def head(self):
        await trio.lowlevel.checkpoint()
        return self.newest

    def add(self, time, seqno=None):
        self.newest = Head(seqno=seqno or self.newest.seqno + 1, time=time, lt=1)


@pytest.fixture
async def clock():
    blocks = Blocks(1_000)
    clock = ChainClock(blocks)
    assert clock.now == math.inf
    await clock.hear()
    assert clock.now == 1_000
    return blocks, clock


async def test_time_goes_on_between_blocks(autojump_clock, clock):
    _, clock = clock
    await trio.sleep(7.5)
    assert clock.now == 1_007.5


async def test_a_server_that_lags_does_not_turn_time_back(autojump_clock, clock):
    blocks, clock = clock
    await trio.sleep(7.5)
    blocks.add(900, seqno=1)
    await clock.hear()
    assert clock.now == 1_007.5


async def test_a_block_says_whole_seconds_and_turns_time_back_by_none_of_them(
    autojump_clock, clock
):
    blocks, clock = clock
    began = trio.current_time()
    for _ in range(50):  # nor does it run ahead by more than that, block after block
        await trio.sleep(0.4)
        blocks.add(1_000 + int(trio.current_time() - began))
        before = clock.now
        await clock.hear()
        assert before <= clock.now <= blocks.newest.time + 1


@pytest.mark.parametrize("time", [1_003, 1_050])
async def test_a_chain_that_is_slower_or_faster_than_we_is_right(autojump_clock, clock, time):
    blocks, clock = clock
    await trio.sleep(7.5)
    blocks.add(time)
    await clock.hear()
    assert clock.now == time
