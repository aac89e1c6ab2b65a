"""The real model through the real network: the answer is the engine's own, and no link tells it."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from inference import catalogue
from inference.client import AskRequest, Done, Policy, ask
from inference.engine.base import (
    ChatMessage,
    Finished,
    Job,
    Loaded,
    Piece,
    Plan,
    Prompt,
    Sampling,
)
from inference.worker import Service, serve
from ledger import tariff
from ledger.money import ZERO
from p2p import wire
from p2p.entropy import SystemEntropy
from p2p.identity import Identity
from p2p.node import NodeConfig, open_node
from p2p.overlay.advert import Fields, Role
from p2p.stack import Peer
from p2p.wire import Endpoint, Kind
from scripts import serving, settings

PATIENCE = 90
"""seconds for what takes five on an idle machine."""

TOKENS = 40

QUESTION = "Why is the silk of moths so strong? Answer briefly."

NONCE = bytes(range(16))

GREEDY, SAMPLED = 0, 800


@dataclass
class Net:
    """Nodes on loopback, and every message of every link as it stood inside the encryption."""

    nursery: trio.Nursery
    first: tuple = ()
    taken: list = field(default_factory=list)

    async def up(self, roles):
        identity = Identity(SystemEntropy().token(32))
        config = NodeConfig(
            identity=identity,
            network=99,
            dev=True,
            roles=roles,
            bootstrap=self.first,
            listen=Endpoint("127.0.0.1", 0) if roles else None,
            tap=lambda link, sent, data: self.taken.append(data),
        )
        node = await self.nursery.start(self._run, config)
        self.first = self.first or (Peer(node.id, (node.endpoint,)),)
        return node, identity

    async def _run(self, config, task_status):
        async with open_node(config) as node:
            task_status.started(node)
            await trio.sleep_forever()


@asynccontextmanager
async def village(engine, model):
    """Four relays, a worker with the engine, a client; everybody knows everybody."""
    loaded = await engine.load(Plan(context=512))
    assert isinstance(loaded, Loaded)
    async with trio.open_nursery() as nursery:
        net = Net(nursery)
        relays = [(await net.up(Role.RELAY))[0] for _ in range(4)]
        worker, identity = await net.up(Role.WORKER)
        client, _ = await net.up(Role(0))
        service = Service(
            identity=model.identity,
            numerics=loaded.numerics,
            context=loaded.context,
            slots=1,
            prompt_rate=loaded.prompt_rate,
            answer_rate=max(loaded.answer_rate, 10.0),
        )
        await nursery.start(serve, worker, engine, service, identity)
        for relay in relays:
            nursery.start_soon(relay.publish, Fields(roles=Role.RELAY))
        models = (service.listing(),)
        nursery.start_soon(worker.publish, Fields(roles=Role.WORKER, models=models))
        for node in (*relays, worker, client):
            while len({entry.id for entry in node.directory.usable(Role(0))} | {node.id}) < 5 + (
                node is client
            ):
                await node.directory_changed()
        yield net, client, identity
        nursery.cancel_scope.cancel()


def asked(temperature):
    messages = (ChatMessage(role="user", content=QUESTION),)
    return AskRequest(
        messages=messages, max_tokens=TOKENS, temperature=temperature, nonce=NONCE, date=20_000
    )


async def through_the_network(client, temperature):
    policy = Policy(known=serving.known(settings.Worker()), deadline_s=PATIENCE)
    async with ask(asked(temperature), client, policy) as answer:
        events = [event async for event in answer]
    assert isinstance(events[-1], Done), events[-1]
    return events[-1]


async def directly(engine, temperature):
    prompt = Prompt(messages=(ChatMessage(role="user", content=QUESTION),), date=20_000)
    prepared = await engine.prepare(prompt)
    job = Job(
        id=2**40 + temperature,
        tag=bytes(16),
        tokens=prepared.tokens,
        max_tokens=TOKENS,
        sampling=Sampling(nonce=NONCE, temperature=temperature),
        stop=prepared.stop,
    )
    async with engine.generate(job) as events:
        told = [event async for event in events]
    pieces = [event for event in told if isinstance(event, Piece)]
    assert isinstance(told[-1], Finished), told[-1]
    return (
        tuple(i for piece in pieces for i in piece.ids),
        "".join(p.text for p in pieces),
        told[-1],
    )


@pytest.mark.skipif(catalogue.builtin_path() is None, reason="the built-in model is not installed")
async def test_real_answer_through_three_relays_is_the_engine_s_own_and_crosses_no_link_in_clear():
    with trio.fail_after(PATIENCE):
        async with (
            serving.opened(settings.Worker()) as (engine, model),
            village(engine, model) as (net, client, identity),
        ):
            for temperature in (GREEDY, SAMPLED):
                done = await through_the_network(client, temperature)
                ids, text, finished = await directly(engine, temperature)

                assert len(done.path) == 4
                assert done.ids == ids
                assert done.text == text
                assert done.usage == finished.usage
                receipt = tariff.verify(done.receipt, identity.public)
                assert receipt.tokens.prompt == finished.usage.prompt
                assert receipt.cost == ZERO
                check_links(net.taken, QUESTION, text)


def check_links(taken, *texts):
    """Every onion message is whole frames of 1200 bytes, and none holds a piece of a text."""
    messages = [wire.unpack(data) for data in taken]
    onion = [message.payload for message in messages if message.kind == Kind.ONION]
    assert onion
    assert all(len(payload) % 1200 == 0 for payload in onion)
    for text in texts:
        for at in range(0, len(text) - 12, 12):
            piece = text[at : at + 12].encode()
            assert not any(piece in data for data in taken)
