"""What crosses the pipe: every value comes back, and nothing else gets through."""

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine import frames
from inference.engine.base import (
    Begun,
    Call,
    Channel,
    ChatMessage,
    EngineState,
    EngineStatistics,
    Failed,
    Fault,
    Finished,
    Job,
    Loaded,
    Piece,
    Plan,
    Prefilled,
    Prepared,
    Prompt,
    Reason,
    Sampling,
    Score,
    Scored,
    Tool,
    ToolStyle,
    Usage,
    Voice,
)
from p2p.errors import CodecError

JOB = Job(
    id=7,
    tag=b"t" * 16,
    tokens=(1, 2, 3),
    max_tokens=9,
    sampling=Sampling(nonce=bytes(16), bias=((5, -100),)),
    stop=(b"\n\n",),
    deadline_s=30,
)
EVENTS = (
    (7, Begun(prompt=3, cached=0)),
    (7, Prefilled(done=3)),
    (7, Piece(first=0, ids=(4,), text="\u20ac", channel=Channel.REASONING, logprobs=(-0.5,))),
    (7, Piece(first=1, ids=(4,), text="", top=(((4, -0.5), (9, -1.5)),))),
    (7, Finished(reason=Reason.DEADLINE, usage=Usage(prompt=3, completion=2))),
    (8, Failed(fault=Fault.TOO_LONG, detail=4096)),
)
LOADED = Loaded(
    numerics=bytes(8), context=1, slots=1, prompt_rate=2.5, answer_rate=1.5, seconds=0.1
)
VOICE = Voice(thought="think", style=ToolStyle.TAGGED, tools=("f",), parallel=False)
CALL = Call(id="1", name="f", arguments="{}")
TOOLED = Prompt(
    messages=(ChatMessage(role="assistant", content="", calls=(CALL,)),),
    tools=(Tool(name="f", description="", parameters="{}"),),
    forced=("f",),
)
TO_CHILD = [
    frames.Load(call=1, plan=Plan()),
    frames.Prepare(call=2, prompt=Prompt(messages=(ChatMessage(role="user", content="a\nb"),))),
    frames.Prepare(call=3, prompt=Prompt(text="x", stop=("y",), date=20_000)),
    frames.Prepare(call=3, prompt=TOOLED),
    frames.Rate(call=3, task=Score(tokens=(1,), answer=(2,), sampling=JOB.sampling, free=1)),
    frames.Unload(call=4),
    frames.Submit(job=JOB),
    frames.Cancel(id=7),
    frames.Pause(id=7),
    frames.Resume(id=7),
]
TO_PARENT = [
    frames.Reply(call=1, result=LOADED),
    frames.Reply(call=1, result=Failed(fault=Fault.NO_MODEL)),
    frames.Reply(call=1, result=Prepared(tokens=(1,), grammar="root", voice=VOICE)),
    frames.Reply(call=1, result=Scored(margins=(0.0, 0.5))),
    frames.Reply(call=1, result=None),
    frames.Events(events=EVENTS),
    frames.Report(
        statistics=EngineStatistics(state=EngineState.READY, steps=4, faults={Fault.DIED: 2})
    ),
]


@pytest.mark.parametrize("message", TO_CHILD, ids=repr)
def test_what_the_parent_says_comes_back(message):
    assert frames.decode_to_child(frames.encode(message)[4:]) == message


@pytest.mark.parametrize("message", TO_PARENT, ids=repr)
def test_what_the_child_says_comes_back(message):
    assert frames.decode_to_parent(frames.encode(message)[4:]) == message


def test_neither_end_takes_the_others_messages():
    with pytest.raises(CodecError):
        frames.decode_to_parent(frames.encode(TO_CHILD[0])[4:])
    with pytest.raises(CodecError):
        frames.decode_to_child(frames.encode(TO_PARENT[0])[4:])


@pytest.mark.parametrize(
    "plain",
    [
        ["Reply", [1]],
        ["Reply", ["1", None]],
        ["Reply", [True, None]],
        ["Reply", [1, ["Failed", [99, 0]]]],
        ["Reply", [1, ["Plan", []]]],
        ["Events", [[[7, ["Begun", [1.5, 0]]]]]],
        ["Events", [[[7]]]],
        ["Events", [{1: 2}]],
        ["Report", [["EngineStatistics", []]]],
        ["os", ["system"]],
        [],
        None,
    ],
    ids=repr,
)
def test_a_value_of_another_shape_is_refused(plain):
    with pytest.raises(CodecError):
        frames.decode_to_parent(msgpack.packb(plain))


def test_a_job_that_breaks_its_rules_is_refused():
    body = msgpack.unpackb(frames.encode(frames.Submit(job=JOB))[4:])
    body[1][0][1][2] = []
    with pytest.raises(CodecError):
        frames.decode_to_child(msgpack.packb(body))


@given(st.binary(max_size=200))
def test_bytes_give_a_message_or_a_codec_error(data):
    with contextlib.suppress(CodecError):
        frames.decode_to_parent(data)


@given(st.sampled_from(TO_PARENT), st.data())
def test_one_changed_byte_gives_a_message_or_a_codec_error(message, data):
    body = bytearray(frames.encode(message)[4:])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CodecError):
        frames.decode_to_parent(bytes(body))
