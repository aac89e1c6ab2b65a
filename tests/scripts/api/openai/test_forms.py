"""What OpenAI's fields say of an answer's form, and how such an answer is told."""

import json

import pytest

from inference.client import Piece
from inference.engine.base import Call, Tool
from scripts.api.openai import chances, forms
from scripts.api.openai.request import chat, completion
from scripts.failure import Failed

PLAIN = {"model": "auto", "messages": [{"role": "user", "content": "?"}]}
SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
FORCED = {"type": "function", "function": {"name": "f"}}


def asked(**fields):
    return chat({**PLAIN, **fields}, {}).request


def test_a_schema_goes_to_the_worker_in_its_own_order():
    assert asked(response_format=FORMAT).schema == json.dumps(SCHEMA, separators=(",", ":"))
    assert asked(response_format={"type": "json_object"}).schema == '{"type":"object"}'
    assert asked(response_format={"type": "text"}).schema == ""


def test_tools_are_offered_forced_or_left_out():
    tool = Tool(name="f", description="d", parameters=json.dumps(SCHEMA, separators=(",", ":")))
    assert (asked(tools=[TOOL]).tools, asked(tools=[TOOL]).forced) == ((tool,), ())
    assert asked(tools=[TOOL], tool_choice="required").forced == ("f",)
    assert asked(tools=[TOOL], tool_choice=FORCED).forced == ("f",)
    assert asked(tools=[TOOL], tool_choice="none").tools == ()
    assert asked(tools=[TOOL], parallel_tool_calls=False).parallel is False
    assert asked(parallel_tool_calls=False).parallel is True
    bare = {"type": "function", "function": {"name": "g"}}
    assert asked(tools=[bare]).tools[0].parameters == forms.NO_PARAMETERS


def test_calls_and_their_results_go_back_to_the_model():
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
    ]
    _, called, result = asked(messages=said, tools=[TOOL]).messages
    assert called.calls == (Call(id="call_1", name="f", arguments="{}"),)
    assert (result.call, result.content) == ("call_1", "42")


def test_probabilities_are_asked_for_with_one_alternative_at_least():
    assert asked(logprobs=True).logprobs == 1
    assert asked(logprobs=True, top_logprobs=0).logprobs == 1
    assert asked(logprobs=True, top_logprobs=5).logprobs == 5
    assert asked(logprobs=False).logprobs == 0
    form = completion({"model": "auto", "prompt": "?", "logprobs": 3}, {})
    assert (form.request.logprobs, form.shown) == (3, 3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
            "response_format.json_schema.schema",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{**TOOL, "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"messages": [{"role": "tool", "content": "42"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "x"}]}]},
            "messages[0].tool_calls[0]",
        ),
    ],
    ids=str,
)
def test_what_no_worker_could_follow_is_refused_by_name(fields, param):
    with pytest.raises(Failed) as failed:
        asked(**fields)
    assert failed.value.failure.param == param


def test_arguments_that_cannot_be_held_to_are_refused_only_if_they_must_be():
    odd = {"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}
    assert asked(tools=[odd]).tools
    with pytest.raises(Failed, match="not cannot be followed"):
        asked(tools=[odd], tool_choice="required")


PIECE = Piece(
    first=0,
    ids=(4, 9, 2),
    text="a\u20ac",
    channel=0,
    logprobs=(500, 10, 1),
    top=(((4, 500), (7, 900)), ((9, 10), (8, 5_000)), ((2, 1), (3, 9_000))),
    texts=((b"a", b"a", b"b"), (b"\xe2\x82\xac", b"\xe2\x82\xac", b"\xff"), (b"", b"", b"c")),
)


def test_probabilities_have_openais_shapes_and_an_end_has_none():
    first, second = chances.of_chat([PIECE], 1)["content"]
    assert (first["token"], first["logprob"], first["bytes"]) == ("a", -0.5, [97])
    assert [one["token"] for one in first["top_logprobs"]] == ["a"]
    assert second["token"] == "\u20ac"
    legacy = chances.of_text([PIECE], 2, start=5)
    assert legacy["text_offset"] == [5, 6]
    assert legacy["top_logprobs"][0] == {"a": -0.5, "b": -0.9}
