"""Shaped asks over real nodes in virtual time: what comes, what it costs, and what shows."""

from dataclasses import replace
from functools import partial
from itertools import pairwise, zip_longest

import pytest
import trio

from inference.client import AskFailed, Chosen, Done, Piece, ask
from inference.engine.base import ChatMessage
from ledger.money import ZERO
from p2p.onion.cell import FRAME_SIZE, Command
from p2p.onion.shaping import Shaping
from p2p.transport.frames import Kind
from tests.inference.test_ask_end_to_end import (
    FUNDS,
    PRICES,
    QUESTION,
    Village,
    asked,
    balanced,
    policy,
)

LONGER = replace(
    QUESTION,
    messages=(ChatMessage(role="user", content="And who spins it, where, and since when? " * 9),),
    max_tokens=90,
    seed=11,
)


@pytest.fixture
async def market():
    async with trio.open_nursery() as nursery:
        yield Village(nursery, PRICES)
        nursery.cancel_scope.cancel()


HEADER = 9
"""bytes before the frames of a message: kind and number"""


def pays(village, **changes):
    return policy(purse=village.purse, max_price=FUNDS, **changes)


async def over(node, limit):
    """When the node's last circuit has ended."""
    with trio.fail_after(limit):
        while node.statistics().onion.circuits:  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.05)
    return trio.current_time()


async def test_the_answer_is_there_long_before_its_bucket_ends(market, autojump_clock):
    client = await market.built()
    began = trio.current_time()
    done = (await asked(client, purse=market.purse, max_price=FUNDS))[-1]
    assert isinstance(done, Done), done
    assert len(done.ids) > 20
    assert trio.current_time() - began < 4.0
    shape = done.shape
    assert (shape.rate, shape.answer_s) == (4, 8)
    assert shape.prompt_cells in (4, 8)
    assert client.statistics().onion.left == 1
    assert await over(client, 9.0) - began == pytest.approx(8.0, abs=0.5)


async def test_the_worker_is_paid_though_its_asker_has_left(market, autojump_clock):
    client = await market.built()
    request = replace(LONGER, max_tokens=200)
    events = await asked(client, request, purse=market.purse, max_price=FUNDS)
    done = events[-1]
    assert isinstance(done, Done), done
    assert done.paid > ZERO
    await trio.sleep(1.5)
    assert market.mint.earned[done.worker] == done.paid
    assert balanced(market)


@pytest.mark.parametrize("swift", [False, True])
async def test_a_shaped_answer_never_waits_for_its_payment(market, autojump_clock, swift):
    """k of the offer counts the slots: the model is as quick as without."""
    client = await market.built()
    request = replace(QUESTION, max_tokens=200, seed=3)
    done = (await asked(client, request, purse=market.purse, max_price=FUNDS, swift=swift))[-1]
    assert isinstance(done, Done), done
    seconds = (done.timing.total - done.timing.first_token) / 1_000
    assert seconds <= len(done.ids) / 20.0 + 0.5
    assert done.shape.rate == (10 if swift else 4)


async def test_leaving_stops_the_worker_within_a_second(market, autojump_clock):
    client = await market.built()
    async with ask(replace(QUESTION, max_tokens=900), client, pays(market)) as answer:
        async for event in answer:
            if isinstance(event, Piece):
                break
    (serving,) = market.servings.values()
    await trio.sleep(1.1)
    assert not serving.statistics().running
    assert client.statistics().onion.left == 1
    await over(client, 9.0)
    assert balanced(market)


async def test_an_unshaped_answer_has_no_shape(market, autojump_clock):
    client = await market.built()
    done = (await asked(client, shaping=Shaping.OFF, purse=market.purse, max_price=FUNDS))[-1]
    assert done.shape is None
    assert client.statistics().onion.circuits == 0


async def test_a_shape_that_is_going_on_dies_with_its_worker(market, autojump_clock):
    client = await market.built()
    done = (await asked(client, purse=market.purse, max_price=FUNDS))[-1]
    market.kill(done.worker)
    await trio.sleep(1.0)
    assert client.statistics().onion.circuits == 0


async def test_a_shape_that_is_going_on_ends_with_its_node(market, autojump_clock):
    """A node that stops does not wait for dummies."""
    client = await market.built()
    await asked(client, purse=market.purse, max_price=FUNDS)
    began = trio.current_time()
    market.kill(client.id)
    await trio.sleep(0.1)
    assert trio.current_time() - began < 1.0


async def test_a_line_that_is_always_busy_does_not_show_a_question(market, autojump_clock):
    await market.built()
    seen = []

    def tap(link, sent, message):
        if message[0] == Kind.ONION:
            seen.append((trio.current_time(), link.peer, sent, message[HEADER + 4 :: FRAME_SIZE]))

    client = await market.up(always=True, tap=tap)
    with trio.fail_after(60):
        while client.directory.status().count < 5:
            await client.directory_changed()
    await trio.sleep(12.0)
    began = len(seen)
    done = (await asked(client, purse=market.purse, max_price=FUNDS))[-1]
    assert isinstance(done, Done), done
    assert done.shape.always
    await over(client, 20.0)
    beside = {said for _, peer, _, said in seen[began:] if peer != done.path[0]}
    assert beside <= {bytes([Command.PADDING])}
    line = [entry for entry in seen[began:] if entry[1] == done.path[0]]
    assert {len(commands) for *_, commands in line} == {1}
    for way in (True, False):
        times = [when for when, _, sent, _ in line if sent is way]
        assert len(times) > 30
        assert all(later - earlier > 0.24 for earlier, later in pairwise(times))


# --- the whole of it, traced ---


async def wait_and_stop(seconds, answer):
    await trio.sleep(seconds)
    answer.stop()


async def traced(request, *, stop_after=None, **changes):
    """What of one ask shows on the links of its path, in a fresh village.

    By places of sender and receiver in the path: (seconds, command) of each frame, but those of
    links without circuits, and those of the bucket's last moment: these links take no time, so that
    the asker's eighth slot and the answer's last cell fall into one. Slots are sorted.
    """
    seen, path = [], []
    async with trio.open_nursery() as nursery:
        village = Village(nursery, PRICES)

        def tap(name):
            def told(link, sent, message):
                if sent and message[0] == Kind.ONION:
                    commands = message[HEADER + 4 :: FRAME_SIZE]
                    seen.append((trio.current_time(), name(), link.peer, commands))

            return told

        up = village.up

        async def tapped(*roles, **config):
            box = []
            node = await up(*roles, tap=tap(lambda: box[0] if box else b""), **config)
            box.append(node.id)
            return node

        village.up = tapped
        client = await village.built(relays=3)
        began = trio.current_time()
        seen.clear()
        async with ask(request, client, pays(village, **changes)) as answer:
            if stop_after is not None:
                nursery.start_soon(partial(wait_and_stop, stop_after, answer))
            async for event in answer:
                last = event
                if isinstance(event, Chosen):
                    path[:] = [client.id, *event.path]
        await over(client, 2_000.0)
        nursery.cancel_scope.cancel()
    links = {}
    for when, sender, receiver, commands in seen:
        link = links.setdefault((path.index(sender), path.index(receiver)), [])
        shown = [command for command in commands if command not in (Command.PADDING, Command.HELLO)]
        link += [(when - began, command) for command in shown if when - began < 7.9]
    return last, {link: sorted(said, key=by_slot) for link, said in links.items()}


def by_slot(said):
    when, command = said
    return round(4 * when), command


def differing(one, other):
    """Where two traces differ, cell by cell. Nodes' clocks are slewed by the machine's.

    `tests/p2p/onion/test_trace.py` compares to the last bit.
    """
    links = [(link, one.get(link, ()), other.get(link, ())) for link in one.keys() | other.keys()]
    return [
        (link, place, a, b)
        for link, left, right in links
        for place, (a, b) in enumerate(zip_longest(left, right, fillvalue=(0.0, None)))
        if a[1] != b[1] or abs(a[0] - b[0]) > 0.02
    ]


async def test_two_paid_answers_of_the_same_buckets_look_the_same(autojump_clock):
    """The whole of it: engine, ticks, receipts, a cancel; every cell on every link."""
    done, plain = await traced(QUESTION)
    assert isinstance(done, Done), done
    longer, other = await traced(LONGER)
    assert isinstance(longer, Done), longer
    assert len(longer.ids) > len(done.ids)
    stopped, cut = await traced(replace(LONGER, max_tokens=900), stop_after=2.2)
    assert isinstance(stopped, AskFailed)
    assert longer.shape.prompt_cells == done.shape.prompt_cells
    assert longer.shape.answer_s == done.shape.answer_s == 8
    assert differing(plain, other) == []
    assert differing(plain, cut) == []
    for place in range(4):
        assert count(plain[place, place + 1], Command.CELL) == 4 + 7
        assert count(plain[place + 1, place], Command.CELL) == 4 * 8 - 1


def count(link, command):
    return [said for _, said in link].count(command)
