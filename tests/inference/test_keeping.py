"""A model leaves memory when nobody needs it, and is back for the next."""

import pytest
import trio

from inference.engine.base import ChatMessage, EngineState, Failed, Fault, Plan, Prepared, Prompt
from inference.engine.fake import FakeEngine
from inference.keeping import AGAIN, Keeper

HELLO = Prompt(messages=(ChatMessage(role="user", content="hi"),))


@pytest.fixture
async def engine(nursery):
    engine = FakeEngine(1, prompt_rate=1e6, answer_rate=1e6, load_seconds=3.0)
    await nursery.start(engine.run)
    await engine.load(Plan())
    return engine


def state(engine):
    return engine.statistics().state


async def test_an_idle_model_is_put_away_and_loaded_for_the_next(engine, nursery, autojump_clock):
    keeper = Keeper(engine, Plan(), idle=600.0, seconds=3.0)
    nursery.start_soon(keeper.watch, lambda: True)
    await trio.sleep(599.0)
    assert (keeper.ready, keeper.away, keeper.seconds) == (True, False, 0.0)
    await trio.sleep(10.0)
    assert (keeper.ready, keeper.away, keeper.seconds) == (True, True, 3.0)
    assert state(engine) is EngineState.EMPTY

    began = trio.current_time()
    assert isinstance(await keeper.prepare(HELLO), Prepared)
    assert trio.current_time() - began >= 3.0
    assert (keeper.away, state(engine)) == (False, EngineState.READY)
    await trio.sleep(599.0)
    assert not keeper.away


async def test_work_keeps_it_in_memory(engine, nursery, autojump_clock):
    keeper = Keeper(engine, Plan(), idle=600.0)
    nursery.start_soon(keeper.watch, lambda: trio.current_time() > 2_000.0)
    await trio.sleep(2_500.0)
    assert not keeper.away
    await trio.sleep(200.0)
    assert keeper.away


async def test_a_model_that_loads_for_somebody_is_not_put_away_meanwhile(
    engine, nursery, autojump_clock
):
    """Loading takes longer than it may be idle, and the prompt is not there yet."""
    keeper = Keeper(engine, Plan(), idle=1.0, seconds=3.0)
    nursery.start_soon(keeper.watch, lambda: True)
    await trio.sleep(5.0)
    assert keeper.away
    await keeper.fetch()
    await trio.sleep(0.5)
    assert not keeper.away


async def test_who_comes_together_waits_for_one_load(engine, nursery, autojump_clock):
    keeper = Keeper(engine, Plan(), seconds=3.0)
    await keeper.put_away()
    began = trio.current_time()
    async with trio.open_nursery() as group:
        for _ in range(3):
            group.start_soon(keeper.prepare, HELLO)
    assert 3.0 <= trio.current_time() - began < 6.0


async def test_a_stop_in_the_middle_of_a_load_frees_the_memory_all_the_same(
    engine, nursery, autojump_clock
):
    keeper = Keeper(engine, Plan(), seconds=3.0)
    await keeper.put_away()
    nursery.start_soon(keeper.fetch)
    await trio.sleep(1.0)
    await keeper.put_away()
    assert state(engine) is EngineState.EMPTY


async def test_without_a_limit_it_stays(engine, nursery, autojump_clock):
    keeper = Keeper(engine, Plan(), idle=None)
    nursery.start_soon(keeper.watch, lambda: True)
    await trio.sleep(80_000.0)
    assert not keeper.away


async def test_a_load_that_fails_is_not_tried_again_at_once(engine, monkeypatch, autojump_clock):
    keeper = Keeper(engine, Plan(), seconds=3.0)
    await keeper.put_away()
    loads = []

    async def load(plan):
        loads.append(plan)
        return Failed(fault=Fault.OUT_OF_MEMORY)

    monkeypatch.setattr(engine, "load", load)
    assert await keeper.prepare(HELLO) == Failed(fault=Fault.NO_MODEL)
    assert not keeper.ready
    await trio.sleep(AGAIN)
    assert keeper.ready
    assert len(loads) == 1
