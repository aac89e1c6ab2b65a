"""An ask over real nodes on a memory carrier in virtual time; only the model is a fake."""

from dataclasses import replace
from functools import partial

import pytest
import trio

from inference import body, pieces
from inference.body import Question
from inference.client import (
    AskFailed,
    AskRequest,
    Chosen,
    Done,
    Offered,
    Piece,
    Policy,
    Progress,
    ask,
)
from inference.engine.base import ChatMessage, EngineState, Finished, Job, Plan, Prompt, Sampling
from inference.engine.base import Piece as EnginePiece
from inference.engine.fake import FakeEngine
from inference.limits import State, Verdict
from inference.market import Known, Memory
from inference.protocol import PLAIN, Abort, Want, Work
from inference.protocol import Prompt as WirePrompt
from inference.service import FREE
from inference.worker import Service, serve
from ledger import tariff
from ledger.money import ZERO, Nano
from ledger.payment import CannotPay, Decline, Unpaid
from ledger.tariff import Count, Prices
from p2p import codec
from p2p.drive import SystemClock
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.node import NodeConfig, open_node
from p2p.onion.core import Data, Opened, Reset
from p2p.onion.shaping import Shaping
from p2p.overlay.advert import Fields, Role
from p2p.stack import Peer
from p2p.transport.memory import Ether, MemoryCarrier
from p2p.wire import Endpoint
from simulations.purse import FINAL_DELAY, FakeMint, FakePurse, FakeTill

NETWORK = 78
NOBODY = Role(0)
MODEL = b"m" * 32
KNOWN = Known(base="fake", quant="f0", file=b"f" * 32, identity=MODEL)
PRICES = Prices(5_000_000, 2_500_000, 20_000_000, 20_000_000)
FUNDS = Nano(100_000_000)
QUESTION = AskRequest(
    messages=(ChatMessage(role="user", content="What is wild silk?"),), max_tokens=40, seed=7
)


class Village:
    """Relays, workers with fake engines, and clients, each in a task that can be killed."""

    def __init__(self, nursery, prices=FREE):
        self.nursery = nursery
        self.prices = prices
        self.mint = FakeMint(Identity(b"M" * 32))
        self.purse = FakePurse(self.mint, FUNDS, seeded(5))
        self.tills = {}
        self.ether = Ether()
        self.first = ()
        self.scopes = {}
        self.count = 0
        self.engines = {}
        self.servings = {}

    def _carrier(self, config):
        return MemoryCarrier(
            config.identity,
            network=config.network,
            listen=config.listen,
            entropy=config.entropy,
            ether=self.ether,
            tap=config.tap,
        )

    async def up(self, roles=NOBODY, **changes):
        self.count += 1
        config = NodeConfig(
            identity=Identity(self.count.to_bytes(32, "little")),
            network=NETWORK,
            dev=True,
            roles=roles,
            bootstrap=self.first,
            listen=Endpoint("127.0.0.1", 0) if roles else None,
            entropy=seeded(self.count),
            **changes,
        )
        node = await self.nursery.start(self._run, config)
        if not self.first:
            self.first = (Peer(node.public, (node.endpoint,)),)
        return node

    async def _run(self, config, task_status):
        with trio.CancelScope() as scope:
            async with open_node(config, carrier=self._carrier) as node:
                self.scopes[node.id] = scope
                if Role.WORKER in config.roles:
                    await self._work(node, config.identity, task_status)
                else:
                    if config.roles:
                        node_nursery = self.nursery
                        node_nursery.start_soon(node.publish, Fields(roles=config.roles))
                    task_status.started(node)
                    await trio.sleep_forever()

    async def _work(self, node, identity, task_status):
        engine = self.engines[node.id] = FakeEngine(seed=1, answer_rate=20.0)
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            loaded = await engine.load(Plan(context=1_024))
            service = Service(
                identity=MODEL,
                numerics=loaded.numerics,
                context=loaded.context,
                slots=loaded.slots,
                prompt_rate=loaded.prompt_rate,
                answer_rate=loaded.answer_rate,
                label="fake",
                prices=self.prices,
            )
            till = self.tills[node.id] = FakeTill(self.mint, node.id, SystemClock().now)
            serving = partial(serve, node, engine, service, identity, till=till)
            self.servings[node.id] = await nursery.start(serving)
            nursery.start_soon(node.publish, Fields(roles=Role.WORKER, models=(service.listing(),)))
            task_status.started(node)

    def kill(self, node_id):
        self.scopes[node_id].cancel()

    async def built(self, *, relays=4, workers=1):
        """The client of a village in which everybody knows everybody."""
        roles = [Role.RELAY] * relays + [Role.WORKER] * workers
        nodes = [await self.up(role) for role in [*roles, NOBODY]]
        with trio.fail_after(120):
            for node in nodes:
                while node.directory.status().count < len(roles):
                    await node.directory_changed()
        return nodes[-1]


@pytest.fixture
async def village():
    async with trio.open_nursery() as nursery:
        yield Village(nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def market():
    """A village whose workers are paid."""
    async with trio.open_nursery() as nursery:
        yield Village(nursery, PRICES)
        nursery.cancel_scope.cancel()


def policy(**changes):
    return replace(Policy(known=(KNOWN,), entropy=seeded(9), memory=Memory()), **changes)


async def asked(client, request=QUESTION, **changes):
    """All events of an ask."""
    async with ask(request, client, policy(**changes)) as answer:
        return [event async for event in answer]


async def directly(engine, done, request=QUESTION):
    """What the engine says to the same prompt and nonce, nobody between."""
    prepared = await engine.prepare(Prompt(messages=request.messages, date=done.date))
    job = Job(
        id=10_000,
        tag=b"",
        tokens=prepared.tokens,
        max_tokens=request.max_tokens,
        sampling=Sampling(nonce=done.nonce),
    )
    async with engine.generate(job) as generation:
        return [event async for event in generation]


async def test_an_answer_comes_privately_and_its_receipt_is_true(village, autojump_clock):
    client = await village.built()
    events = await asked(client)

    done = events[-1]
    assert isinstance(done, Done), done
    assert [type(event) for event in events[:2]] == [Chosen, Offered]
    assert any(isinstance(event, Progress) for event in events)
    pieces = [event for event in events if isinstance(event, Piece)]
    assert len(pieces) > 3
    assert "".join(piece.text for piece in pieces) == done.text
    assert len(done.path) == 4
    public = client.directory.find(done.worker).advert.public
    receipt = tariff.verify(done.receipt, public)
    assert receipt.tokens.written == len(done.ids)
    assert receipt.cost == done.cost == ZERO
    assert done.model == KNOWN.name
    assert 0 <= done.timing.circuit <= done.timing.offer < done.timing.first_token
    assert done.timing.first_token < done.timing.total


async def test_the_network_gives_the_ids_that_the_engine_gives(village, autojump_clock):
    client = await village.built()
    done = (await asked(client))[-1]
    events = await directly(village.engines[done.worker], done)
    ids = [id_ for event in events if isinstance(event, EnginePiece) for id_ in event.ids]
    assert tuple(ids) == done.ids
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert done.usage == finished.usage


async def test_the_same_seed_gives_the_same_answer_twice(village, autojump_clock):
    client = await village.built(workers=2)
    first, second = (await asked(client))[-1], (await asked(client))[-1]
    assert first.ids == second.ids
    other = (await asked(client, replace(QUESTION, seed=8)))[-1]
    assert other.ids != first.ids


async def test_leaving_stops_the_worker_within_a_step(village, autojump_clock):
    client = await village.built()
    unshaped = policy(shaping=Shaping.OFF)
    async with ask(replace(QUESTION, max_tokens=900), client, unshaped) as answer:
        async for event in answer:
            if isinstance(event, Piece):
                break
    (engine,) = village.engines.values()
    (serving,) = village.servings.values()
    await trio.sleep(0.5)
    assert not serving.statistics().running
    assert not engine.statistics().busy
    assert engine.statistics().tokens_out < 20


async def test_a_worker_killed_before_it_answered_gives_way_to_another(village, autojump_clock):
    client = await village.built(workers=2)
    events = []
    async with ask(QUESTION, client, policy()) as answer:
        async for event in answer:
            events.append(event)
            if isinstance(event, Offered) and len(village.scopes) and len(events) == 2:
                village.kill(event.worker)
    done = events[-1]
    assert isinstance(done, Done), done
    assert [refused.reason for refused in done.refusals] == ["lost"]


async def test_a_worker_killed_in_mid_answer_is_a_clear_error_with_the_text(
    village, autojump_clock
):
    client = await village.built(workers=2)
    events = []
    async with ask(QUESTION, client, policy()) as answer:
        async for event in answer:
            events.append(event)
            if isinstance(event, Piece) and event.first > 3:
                village.kill(events[0].worker)
    failed = events[-1]
    assert isinstance(failed, AskFailed)
    assert failed.code == "worker_lost"
    assert failed.text
    assert failed.worker == events[0].worker


async def test_relays_that_all_die_in_mid_answer_are_a_lost_circuit(village, autojump_clock):
    client = await village.built()
    events = []
    async with ask(QUESTION, client, policy()) as answer:
        async for event in answer:
            events.append(event)
            if isinstance(event, Piece) and event.first > 3:
                for relay in client.directory.usable(Role.RELAY):
                    village.kill(relay.id)
    assert isinstance(events[-1], AskFailed)
    assert events[-1].code == "circuit_lost"
    assert events[-1].text


@pytest.mark.parametrize("dead", [0, 1, 2])
async def test_a_dead_relay_is_gone_around(village, autojump_clock, dead):
    client = await village.built(relays=5)
    path = client.path(next(iter(village.servings)), 3)
    village.kill(path[dead].id)
    assert isinstance((await asked(client))[-1], Done)


async def test_fewer_relays_than_hops_is_said(village, autojump_clock):
    client = await village.built(relays=2)
    (failed,) = await asked(client)
    assert failed.code == "no_path"
    assert isinstance((await asked(client, relays=2))[-1], Done)


async def test_an_unknown_model_and_no_worker_are_said(village, autojump_clock):
    client = await village.built(workers=0)
    (failed,) = await asked(client, replace(QUESTION, model="gpt-17"))
    assert failed.code == "model_not_found"
    (failed,) = await asked(client)
    assert failed.code == "no_worker"


async def test_nobody_to_join_is_said(village, autojump_clock):
    village.first = (Peer(Identity(b"n" * 32).public, (Endpoint("127.0.0.1", 9),)),)
    client = await village.up()
    with trio.fail_after(11):
        (failed,) = await asked(client)
    assert failed.code == "joining_network"


async def test_a_deadline_ends_with_what_came(village, autojump_clock):
    client = await village.built()
    with trio.fail_after(1.0):
        events = await asked(client, deadline_s=1.0)
    last = events[-1]
    assert last.text
    assert (last.code if isinstance(last, AskFailed) else last.finish) == "deadline"


async def test_a_long_prompt_is_paced_into_the_circuit(village, autojump_clock):
    client = await village.built()
    request = replace(
        QUESTION, messages=(ChatMessage(role="user", content="silk " * 160),), max_tokens=5
    )
    done = (await asked(client, request))[-1]
    assert isinstance(done, Done), done
    assert done.usage.prompt > 800


async def test_a_prompt_too_long_is_the_callers(village, autojump_clock):
    client = await village.built(workers=2)
    long = (ChatMessage(role="user", content="silk " * 210),)
    failed = (await asked(client, replace(QUESTION, messages=long, max_tokens=None)))[-1]
    assert failed.code == "context_length_exceeded"
    assert isinstance((await asked(client))[-1], Done)


async def half_asked(village, client):
    """A circuit whose want has an offer, and its events."""
    (worker,) = village.servings
    want = Want(work=Work.CHAT, identity=MODEL, nonce=b"n" * 16, size_class=4, max_tokens=900)
    circuit = client.open(client.path(worker), PLAIN + want.encode())
    events = client.events(circuit)
    assert isinstance(await events.receive(), Opened)
    return circuit, events


async def test_an_asker_that_stops_in_its_prompt_is_given_up(village, autojump_clock):
    client = await village.built()
    circuit, events = await half_asked(village, client)
    client.send(circuit, 1, b"\x20")
    with trio.fail_after(31):
        assert await events.receive() == Reset(circuit, 1, Abort.SILENT)


async def test_a_reset_alone_stops_the_engine(village, autojump_clock):
    client = await village.built()
    circuit, events = await half_asked(village, client)
    question = Question(prompt=Prompt(messages=QUESTION.messages))
    prompt = WirePrompt(
        nonce=b"s" * 16, date=None, deadline_ms=60_000, settings={}, body=body.write(question)
    )
    client.send(circuit, 1, codec.frame(prompt.encode()))
    while not isinstance(await events.receive(), Data):
        pass
    (serving,) = village.servings.values()
    (engine,) = village.engines.values()
    assert serving.statistics().running == 1
    client.reset(circuit, 1, Abort.CANCELLED)
    await trio.sleep(0.2)
    assert serving.statistics().running == 0
    assert engine.statistics().busy == 0


async def test_an_engine_is_held_for_an_asker_that_reads_slowly(
    village, autojump_clock, monkeypatch
):
    monkeypatch.setattr(pieces, "MAX_TOKENS_HELD", 3)
    client = await village.built()
    (serving,) = village.servings.values()
    (engine,) = village.engines.values()
    room = serving._core._orders._room
    async with ask(QUESTION, client, policy()) as answer:
        async for event in answer:
            if isinstance(event, Piece) and event.first == 0:
                serving._core._orders._room = lambda circuit: 0
                await trio.sleep(5)
                held = engine.statistics().tokens_out
                assert held < 10
                serving._core._orders._room = room
    assert isinstance(event, Done)
    assert len(event.ids) > held


async def test_a_worker_that_leaves_drains_and_refuses(village, autojump_clock):
    client = await village.built()
    (serving,) = village.servings.values()
    events = []
    async with ask(QUESTION, client, policy()) as answer, trio.open_nursery() as nursery:
        async for event in answer:
            events.append(event)
            if isinstance(event, Piece) and event.first == 0:
                nursery.start_soon(serving.drain)
    assert isinstance(events[-1], Done)
    (_, failed) = await asked(client)
    assert failed.code == "busy"
    assert serving.statistics().refusals == {"paused": 1}


async def test_a_callers_own_error_leaves_the_block_unwrapped(village, autojump_clock):
    client = await village.built()
    with pytest.raises(ZeroDivisionError):
        async with ask(QUESTION, client, policy()):
            1 / 0  # noqa: B018


# --- paid ---


async def paid(village, client, request=QUESTION, **changes):
    """All events of an ask that may cost something; not shaped, so that ticks are many."""
    options = {"purse": village.purse, "max_price": FUNDS, "shaping": Shaping.OFF} | changes
    return await asked(client, request, **options)


def balanced(village):
    """Whether every coin is somewhere, none of them set aside any more."""
    village.purse.fetch()
    earned = sum(village.mint.earned.values(), ZERO)
    return village.purse.open == [] and village.purse.balance + earned == FUNDS


async def test_a_paid_answer_is_the_free_one_and_costs_its_receipt(market, autojump_clock):
    client = await market.built()
    done = (await paid(market, client))[-1]
    assert isinstance(done, Done), done
    receipt = tariff.verify(done.receipt, client.directory.find(done.worker).advert.public)
    assert receipt.cost == done.cost == tariff.cost(receipt.tokens, PRICES) > ZERO
    assert receipt.ticks > 1
    await trio.sleep(1)
    tick = market.purse.over[0][0].terms.tick
    assert done.paid == market.mint.earned[done.worker]
    assert done.paid == tick * receipt.ticks
    assert receipt.ticks == receipt.cost.ceil_div(tick.value).value
    assert balanced(market)
    events = await directly(market.engines[done.worker], done)
    ids = [id_ for event in events if isinstance(event, EnginePiece) for id_ in event.ids]
    assert tuple(ids) == done.ids


async def test_a_paid_answer_never_waits_for_its_payment(market, autojump_clock):
    """A tick lasts longer than its way: the answer is as quick as the model."""
    client = await market.built()
    done = (await paid(market, client, replace(QUESTION, max_tokens=200, seed=3)))[-1]
    assert isinstance(done, Done), done
    seconds = (done.timing.total - done.timing.first_token) / 1_000
    assert seconds <= len(done.ids) / 20.0 + 0.5


@pytest.mark.parametrize(("from_token", "max_tokens"), [(0, 40), (10, 30)], ids=["first", "last"])
async def test_a_tick_that_finds_no_room_leaves_when_there_is_some(
    market, autojump_clock, monkeypatch, from_token, max_tokens
):
    client = await market.built()
    writable, began, tokens = client.writable, [], 0

    def crowded(circuit):
        """Nothing, for three seconds from the lock or so many tokens of the answer on."""
        if market.mint.held and tokens >= from_token:
            began.append(trio.current_time())
        return 0 if began and trio.current_time() < began[0] + 3.0 else writable(circuit)

    monkeypatch.setattr(client, "writable", crowded)
    request = replace(QUESTION, max_tokens=max_tokens)
    options = {"max_price": FUNDS, "shaping": Shaping.OFF}
    async with ask(request, client, policy(purse=market.purse, **options)) as answer:
        async for event in answer:
            tokens += len(event.ids) if isinstance(event, Piece) else 0
    assert isinstance(event, Done), event
    assert began
    await trio.sleep(1)
    assert market.mint.earned[event.worker] == event.paid
    assert balanced(market)


async def test_a_long_prompt_is_paid_step_by_step(market, autojump_clock):
    client = await market.built()
    request = replace(
        QUESTION, messages=(ChatMessage(role="user", content="silk " * 160),), max_tokens=5
    )
    done = (await paid(market, client, request))[-1]
    assert isinstance(done, Done), done
    await trio.sleep(1)
    assert balanced(market)


async def test_a_worker_that_stops_is_paid_for_what_it_said_and_is_back_with_its_model(
    market, autojump_clock
):
    client = await market.built()
    (serving,), (engine,) = market.servings.values(), market.engines.values()
    options = policy(purse=market.purse, max_price=FUNDS, shaping=Shaping.OFF)
    events = []
    async with ask(replace(QUESTION, max_tokens=900), client, options) as answer:
        async for event in answer:
            events.append(event)
            if isinstance(event, Piece) and len(events) == 8:
                await serving.verdict(Verdict(state=State.STOP))
                assert engine.statistics().state is EngineState.EMPTY
    assert isinstance(event, Done), event
    assert event.finish == "worker_lost"
    receipt = tariff.verify(event.receipt, client.directory.find(event.worker).advert.public)
    assert receipt.stop is tariff.Stop.PAUSED
    assert receipt.tokens.written == len(event.ids) > 0
    assert event.cost == tariff.cost(receipt.tokens, PRICES)
    await trio.sleep(1)
    assert event.paid == market.mint.earned[event.worker]
    assert balanced(market)

    memory = options.memory  # the refusal of a stopped worker is remembered by its asker alone
    refused = (await paid(market, client, memory=memory))[-1]
    assert isinstance(refused, AskFailed)
    await serving.verdict(Verdict())
    assert serving.away
    again = (await paid(market, client))[-1]
    assert isinstance(again, Done), again
    assert engine.statistics().state is EngineState.READY


async def test_leaving_a_paid_answer_costs_what_came_and_a_tick(market, autojump_clock):
    client = await market.built()
    options = policy(purse=market.purse, max_price=FUNDS)
    tokens = 0
    async with ask(replace(QUESTION, max_tokens=900), client, options) as answer:
        async for event in answer:
            if isinstance(event, Piece):
                tokens += len(event.ids)
            if tokens > 40:
                break
    await trio.sleep(1)
    assert balanced(market)
    ((payment, locked, revealed, _),) = market.purse.over
    assert locked
    (earned,) = market.mint.earned.values()
    assert earned <= payment.terms.tick * revealed
    read = tariff.cost(Count(prompt=35, completion=tokens), PRICES)
    assert earned <= read + payment.terms.tick * 2


async def test_a_worker_that_stops_in_mid_answer_settles_what_it_was_paid(market, autojump_clock):
    client = await market.built(workers=2)
    options = policy(purse=market.purse, max_price=FUNDS)
    async with ask(QUESTION, client, options) as answer:
        async for event in answer:
            if isinstance(event, Piece) and event.first > 3:
                market.kill(event_worker(market))
    assert isinstance(event, AskFailed)
    assert event.code == "worker_lost"
    assert event.paid > ZERO
    ((payment, locked, revealed, _),) = market.purse.over
    assert locked
    assert balanced(market)
    assert market.mint.earned.get(payment.terms.payee, ZERO) <= payment.terms.tick * revealed


async def test_a_worker_killed_in_mid_answer_leaves_a_lock_that_ends(market, autojump_clock):
    client = await market.built(workers=2)
    for till in market.tills.values():
        till.settle = lambda lock_id, final, ticks: None
    options = policy(purse=market.purse, max_price=FUNDS)
    async with ask(QUESTION, client, options) as answer:
        async for event in answer:
            if isinstance(event, Piece) and event.first > 3:
                market.kill(event_worker(market))
    ((payment, *_),) = market.purse.over
    assert not balanced(market)
    market.mint.expire(payment.terms.expiry + FINAL_DELAY)
    assert balanced(market)
    assert market.mint.earned == {}


def event_worker(village):
    """Who holds the one lock."""
    (held,) = village.mint.held.values()
    return held.worker


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Unpaid.NO_CREDITS, "no_credits"),
        (Unpaid.LANE, "no_credits"),
        (Unpaid.MINT_DOWN, "mint_unreachable"),
        (Unpaid.CHAIN_DOWN, "chain_unreachable"),
        (Unpaid.NO_PATH, "no_path"),
        (Unpaid.DEAR, "price_above_cap"),
        (Unpaid.STORE, "internal"),
    ],
)
async def test_what_cannot_be_paid_never_sends_the_prompt(market, autojump_clock, reason, code):
    client = await market.built()

    async def cannot():
        await trio.sleep(0.1)
        raise CannotPay(reason)

    market.purse.before = cannot
    events = await paid(market, client)
    assert [type(event) for event in events] == [Chosen, AskFailed]
    assert events[-1].code == code
    assert balanced(market)
    assert market.mint.held == {}


async def test_a_purse_that_buys_first_is_waited_for(market, autojump_clock):
    client = await market.built()

    async def buys():
        market.purse.before = None
        await trio.sleep(40)

    market.purse.before = buys
    events = await paid(market, client)
    assert isinstance(events[-1], Done), events[-1]
    await trio.sleep(1)
    assert balanced(market)


async def test_leaving_while_coins_are_set_aside_leaves_none_aside(market, autojump_clock):
    client = await market.built()
    market.purse.before = trio.sleep_forever
    options = policy(purse=market.purse, max_price=FUNDS)
    async with ask(QUESTION, client, options) as answer:
        async for event in answer:
            if isinstance(event, Chosen):
                break
        await trio.sleep(2)
    assert balanced(market)


async def test_a_mint_that_is_down_at_the_lock_is_said_and_costs_nothing(market, autojump_clock):
    client = await market.built()

    async def goes():
        market.mint.down = True
        await trio.sleep(0.1)

    for till in market.tills.values():
        till.before = goes
    failed = (await paid(market, client))[-1]
    assert failed.code == "mint_unreachable"
    assert balanced(market)


async def test_coins_spent_twice_are_replaced_once(market, autojump_clock):
    client = await market.built()
    (worker,) = market.tills
    till = market.tills[worker]
    lock, calls = till.take, []

    def spent_at_first(spend, session, tick):
        calls.append(session)
        return Decline.SPENT if len(calls) == 1 else lock(spend, session, tick)

    till.take = spent_at_first
    done = (await paid(market, client))[-1]
    assert isinstance(done, Done)
    assert len(set(calls)) == 2
    await trio.sleep(1)
    assert balanced(market)


async def test_who_stops_an_answer_hears_what_it_cost_and_has_the_rest_back(market, autojump_clock):
    client = await market.built()
    options = policy(purse=market.purse, max_price=FUNDS)
    async with ask(replace(QUESTION, max_tokens=900), client, options) as answer:
        async for event in answer:
            if isinstance(event, Piece) and event.first > 3:
                answer.stop()
    assert isinstance(event, AskFailed)
    assert event.code == "cancelled"
    assert ZERO < event.paid < event.quoted
    await trio.sleep(FINAL_DELAY + 60)
    assert balanced(market)


async def test_without_a_purse_or_below_its_price_no_worker_is_asked(market, autojump_clock):
    client = await market.built()
    (failed,) = await asked(client, max_price=FUNDS)
    assert failed.code == "no_credits"
    (failed,) = await asked(client, purse=market.purse, max_price=Nano(1))
    assert failed.code == "price_above_cap"


async def test_prices_without_a_till_are_an_error_of_ours(village, autojump_clock):
    client = await village.built()
    service = Service(
        identity=MODEL,
        numerics=b"numerics",
        context=8,
        slots=1,
        prompt_rate=1.0,
        answer_rate=1.0,
        prices=PRICES,
    )
    with pytest.raises(ValueError, match="till"):
        await serve(client, FakeEngine(seed=1), service, Identity(b"i" * 32))
