"""Another server as the engine: what it says is understood, and it is left at once.

The server is a stand-in over sockets that writes what llama-server and its like write. With
`TUSSAH_UPSTREAM=http://...` the last test asks a real one.
"""

import json
import os
from contextlib import asynccontextmanager
from itertools import pairwise

import h11
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine import upstream
from inference.engine.base import (
    Begun,
    Channel,
    ChatMessage,
    EngineState,
    Failed,
    Fault,
    Finished,
    Job,
    Loaded,
    Piece,
    Plan,
    Prompt,
    Reason,
    Sampling,
    Tool,
    Usage,
)
from inference.engine.http import Server
from inference.engine.sse import MAX_EVENT, SseReader
from inference.engine.upstream import UpstreamEngine, packed, unpacked
from p2p.errors import RemoteError

PLAN = Plan(context=1_024, slots=2)
WORDS = ("Luna", ", ", "atlas", " \u20ac")


class StandIn:
    """A server; `script` are the events of its next answers, None for one that never comes."""

    def __init__(self):
        self.asked, self.script, self.status, self.left = [], None, 200, trio.Event()
        self.under_way = self.most = 0

    async def serve(self, task_status):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        async with trio.open_nursery() as nursery:
            await trio.serve_listeners(self.answer, listeners, handler_nursery=nursery)

    async def answer(self, stream):
        connection = h11.Connection(h11.SERVER)
        body, head = b"", None
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65_536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
        say = Saying(stream, connection)
        if head.target == b"/v1/models":
            await say.whole(200, {"data": [{"id": "moth"}, {"id": "silk"}]})
            return
        self.asked.append((head.target, json.loads(body)))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.speak(say, self.asked[-1][1])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.left.set()
        finally:
            self.under_way -= 1

    async def speak(self, say, asked):
        if self.status != 200:
            await say.whole(self.status, {"error": {"message": "no"}})
            return
        await say.head(200)
        for event in usual(asked) if self.script is None else self.script:
            if event is None:
                while True:  # what is written to who has left comes back as an error
                    await say.data(b": still here\n\n")
                    await trio.sleep(0.01)
            text = event if isinstance(event, str) else json.dumps(event)
            await say.data(f"data: {text}\r\n\r\n".encode())
        await say.end()


class Saying:
    def __init__(self, stream, connection):
        self.stream, self.connection = stream, connection

    async def head(self, status):
        headers = [("Transfer-Encoding", "chunked"), ("Connection", "close")]
        head = h11.Response(status_code=status, headers=headers)
        await self.stream.send_all(self.connection.send(head))

    async def data(self, data):
        await self.stream.send_all(self.connection.send(h11.Data(data=data)))

    async def end(self):
        await self.stream.send_all(self.connection.send(h11.EndOfMessage()))
        await self.stream.aclose()

    async def whole(self, status, document):
        await self.head(status)
        await self.data(json.dumps(document).encode())
        await self.end()


def usual(asked):
    """As servers answer: a piece a token, then why it ended, then the usage."""
    for word in WORDS[: asked["max_tokens"]]:
        piece = {"text": word} if "prompt" in asked else {"delta": {"content": word}}
        yield {"choices": [{**piece, "finish_reason": None}]}
    yield {"choices": [{"delta": {}, "text": "", "finish_reason": "stop"}]}
    yield {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    yield "[DONE]"


@pytest.fixture
async def server(nursery):
    stand_in = StandIn()
    stand_in.port = await nursery.start(stand_in.serve)
    return stand_in


@asynccontextmanager
async def loaded(url, model=""):
    engine = UpstreamEngine(Server.of(url), model=model)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        result = await engine.load(PLAN)
        yield engine, result
        nursery.cancel_scope.cancel()


@pytest.fixture
async def engine(server):
    async with loaded(f"http://127.0.0.1:{server.port}/v1") as (engine, result):
        assert isinstance(result, Loaded)
        server.asked.clear()
        yield engine


def job(prepared, number=1, **changes):
    usual = {"max_tokens": 16, "sampling": Sampling(nonce=b"n" * 16), "tag": bytes(16)}
    return Job(id=number, tokens=prepared.tokens, stop=prepared.stop, **{**usual, **changes})


ASKED = Prompt(messages=(ChatMessage(role="user", content="Two moths?"),), stop=("\n",))


async def answered(engine, prompt=ASKED, **changes):
    prepared = await engine.prepare(prompt)
    async with engine.generate(job(prepared, **changes)) as events:
        return prepared, [event async for event in events]


def text_of(events, channel=Channel.CONTENT):
    pieces = [event for event in events if isinstance(event, Piece)]
    return "".join(piece.text for piece in pieces if piece.channel is channel)


async def test_loading_measures_and_promises_nothing_that_cannot_be_checked(server):
    async with loaded(f"http://127.0.0.1:{server.port}") as (engine, result):
        assert (result.slots, result.reproducible, result.logprobs) == (2, False, False)
        assert result.prompt_rate > 0 < result.answer_rate
        assert engine.model == "moth"
        assert engine.statistics().state is EngineState.READY


async def test_an_answer_goes_from_begun_to_finished(engine, server):
    prepared, (begun, *pieces, finished) = await answered(engine)
    assert begun == Begun(prompt=len(prepared.tokens), cached=0)
    assert text_of(pieces) == "".join(WORDS)
    usage = Usage(prompt=len(prepared.tokens), completion=len(WORDS))
    assert finished == Finished(reason=Reason.STOP, usage=usage)
    ((path, body),) = server.asked
    assert path == b"/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "Two moths?"}]
    assert (body["model"], body["stop"], body["temperature"]) == ("moth", ["\n"], 0.8)
    assert "top_k" not in body


async def test_no_more_comes_than_was_asked_for(engine):
    _, events = await answered(engine, max_tokens=2)
    assert text_of(events) == "Luna, "
    assert events[-1].reason is Reason.LENGTH
    assert events[-1].usage.completion == 2


async def test_thoughts_and_calls_have_channels_of_their_own(engine, server):
    parts = [{"index": 0, "function": {"name": "moth", "arguments": '{"le'}}]
    more = [{"index": 0, "function": {"arguments": 'gs": 6}'}}]
    server.script = [
        {"choices": [{"delta": {"reasoning_content": "hm"}}]},
        {"choices": [{"delta": {"tool_calls": parts}}]},
        {"choices": [{"delta": {"tool_calls": more}, "finish_reason": "tool_calls"}]},
        "[DONE]",
    ]
    tool = Tool(name="moth", description="", parameters='{"type":"object"}')
    prompt = Prompt(messages=ASKED.messages, tools=(tool,), forced=("moth",))
    _, events = await answered(engine, prompt)
    assert text_of(events, Channel.REASONING) == "hm"
    call = {"name": "moth", "arguments": {"legs": 6}}
    assert json.loads(text_of(events, Channel.TOOL_CALL)) == call
    assert events[-1].reason is Reason.TOOL_CALLS
    assert (events[-1].usage.completion, events[-1].usage.reasoning) == (2, 1)
    assert server.asked[0][1]["tool_choice"]["function"]["name"] == "moth"


async def test_leaving_hangs_up_and_the_next_is_answered(engine, server):
    server.script = [{"choices": [{"delta": {"content": "Luna"}}]}, None]
    prepared = await engine.prepare(ASKED)
    async with engine.generate(job(prepared)) as events:
        assert isinstance(await anext(events), Begun)
        assert isinstance(await anext(events), Piece)
    with trio.fail_after(10):
        await server.left.wait()
    server.script = None
    _, events = await answered(engine, number=2)
    assert isinstance(events[-1], Finished)


async def test_no_more_are_asked_at_once_than_there_are_slots(engine, server):
    prepared = await engine.prepare(ASKED)

    async def one(number):
        async with engine.generate(job(prepared, number)) as events:
            assert isinstance([event async for event in events][-1], Finished)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(one, number)
    assert server.most <= 2
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("status", "fault"),
    [(400, Fault.BAD_REQUEST), (404, Fault.NO_MODEL), (429, Fault.BUSY), (500, Fault.UPSTREAM)],
)
async def test_a_servers_refusal_is_a_fault_of_ours(engine, server, status, fault):
    server.status = status
    _, events = await answered(engine)
    assert events[-1] == Failed(fault=fault)
    assert engine.statistics().faults == {fault: 1}


HALF = {"choices": [{"delta": {"content": "\ud83e"}}]}
"""half a character, in JSON's own letters"""


@pytest.mark.parametrize(
    "script",
    [["no JSON"], [{"error": {"message": "broken"}}], ["[1]"], [HALF]],
    ids=str,
)
async def test_what_breaks_off_is_no_answer(engine, server, script):
    server.script = script
    _, events = await answered(engine)
    assert events[-1] == Failed(fault=Fault.UPSTREAM)


async def test_a_deadline_ends_what_never_ends(engine, server):
    server.script = [{"choices": [{"delta": {"content": "Luna"}}]}, None]
    _, events = await answered(engine, deadline_s=0.3)
    assert events[-1].reason is Reason.DEADLINE


async def test_where_no_server_is_nothing_is_loaded():
    async with loaded("http://127.0.0.1:9") as (engine, result):
        assert result == Failed(fault=Fault.UPSTREAM)
        assert await engine.prepare(ASKED) == Failed(fault=Fault.NO_MODEL)


async def test_a_model_that_it_has_not_is_none(server):
    async with loaded(f"http://127.0.0.1:{server.port}", model="wasp") as (_, result):
        assert result == Failed(fault=Fault.NO_MODEL)


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://localhost:8080/v1", True),
        ("http://127.0.0.1:1", True),
        ("http://192.168.1.9:1234", True),
        ("https://[::1]:1", True),
        ("http://8.8.8.8:80", False),
        ("https://api.example.org/v1", False),
    ],
)
def test_near_is_this_machine_and_the_network_at_home(url, near):
    assert Server.of(url).is_near is near


@given(st.binary(max_size=40))
def test_bytes_come_back_out_of_tokens(data):
    assert unpacked(packed(data)) == data
    assert all(0 <= token < 2**24 for token in packed(data))


STREAM = (
    b": hello\n\ndata: one\r\n\r\nevent: x\rdata: two\rdata:three\r\r"
    b"data: \xe2\x82\xac\n\nid: 5\n\ndata: [DONE]\r\n\r\n"
)


@settings(max_examples=200)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_however_their_bytes_fall(cuts):
    reader, events = SseReader(), []
    places = sorted({0, *cuts, len(STREAM)})
    for start, end in pairwise(places):
        events += reader.feed(STREAM[start:end])
    assert events == ["one", "two\nthree", "\u20ac", "[DONE]"]


def test_an_event_without_an_end_is_refused():
    reader = SseReader()
    for _ in range(4):
        reader.feed(b"data: " + b"x" * (MAX_EVENT // 5) + b"\n")
    with pytest.raises(RemoteError):
        reader.feed(b"data: " + b"x" * (MAX_EVENT // 4))


@pytest.mark.skipif("TUSSAH_UPSTREAM" not in os.environ, reason="no TUSSAH_UPSTREAM to ask")
async def test_a_real_server_answers():
    async with loaded(os.environ["TUSSAH_UPSTREAM"]) as (engine, result):
        assert isinstance(result, Loaded)
        _, events = await answered(engine, max_tokens=24)
        assert text_of(events).strip()
        assert isinstance(events[-1], Finished)
        _, events = await answered(engine, Prompt(text="One, two, three,"), number=2, max_tokens=8)
        assert text_of(events).strip()
        assert upstream.identity(engine.model) != bytes(32)
