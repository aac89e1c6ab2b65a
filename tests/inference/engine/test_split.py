"""An answer's text taken apart: the same parts however its tokens fall, and nothing lost."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.base import Channel, ToolStyle, Voice
from inference.engine.split import Splitter

SAY, THINK, CALL = Channel.CONTENT, Channel.REASONING, Channel.TOOL_CALL

PLAIN = Voice()
THINKER = Voice(thought="think")
TAGGED = Voice(style=ToolStyle.TAGGED, tools=("moth",))
LISTED = Voice(style=ToolStyle.LISTED, tools=("moth", "silk"))
WHOLE = Voice(style=ToolStyle.WHOLE, tools=("moth",))
BOTH = Voice(thought="think", opened=True, style=ToolStyle.TAGGED, tools=("moth",))
ONE = Voice(style=ToolStyle.LISTED, tools=("moth",), parallel=False)

MOTH = '{"name": "moth", "arguments": {"legs": 6}}'
LINE = MOTH + "\n"
HALF = '{"name": "moth", "arguments": {"legs": "\\ud800"}}'
ENDLESS = '{"name": "moth", "arguments": {"legs": NaN}}'

CASES = [
    (PLAIN, " <think>a</think> {", {SAY: " <think>a</think> {"}),
    (THINKER, "\n<think>\nhm</think>\n\nYes.", {THINK: "\nhm", SAY: "Yes."}),
    (THINKER, "Yes <think>no</think>", {SAY: "Yes <think>no</think>"}),
    (THINKER, "<think>never ends", {THINK: "never ends"}),
    (THINKER, "<thin", {SAY: "<thin"}),
    (TAGGED, f"See: <tool_call>\n{MOTH}\n</tool_call>", {SAY: "See: ", CALL: LINE}),
    (TAGGED, f"<tool_call>{MOTH}</tool_call>" * 2, {CALL: LINE * 2}),
    (TAGGED, f"<tool_call>{MOTH}", {CALL: LINE}),
    (TAGGED, "<tool_call>{]</tool_call>!", {SAY: "<tool_call>{]</tool_call>!"}),
    (TAGGED, "a < b <tool", {SAY: "a < b <tool"}),
    (LISTED, f"[TOOL_CALLS] [{MOTH}, {MOTH}]", {CALL: LINE * 2}),
    (LISTED, f"[{MOTH}]", {CALL: LINE}),
    (LISTED, "[1] is a footnote", {SAY: "[1] is a footnote"}),
    (LISTED, '[{"name": "wasp", "arguments": {}}]', {SAY: '[{"name": "wasp", "arguments": {}}]'}),
    (WHOLE, '{"name": "moth", "parameters": {"legs": 6}}', {CALL: LINE}),
    (WHOLE, '{"name": "moth", "arguments": "{\\"legs\\": 6}"}', {CALL: LINE}),
    (WHOLE, '{"legs": 6}', {SAY: '{"legs": 6}'}),
    (WHOLE, HALF, {SAY: HALF}),
    (WHOLE, ENDLESS, {SAY: ENDLESS}),
    (BOTH, f"hm</think>\n<tool_call>{MOTH}</tool_call>", {THINK: "hm", CALL: LINE}),
    (ONE, f"[{MOTH}, {MOTH}]", {CALL: LINE}),
]


def parts(voice, pieces):
    splitter = Splitter(voice)
    said = [one for piece in pieces for one in splitter.push(piece)]
    said += splitter.finish()
    together = {}
    for channel, text in said:
        assert text
        together[channel] = together.get(channel, "") + text
    return together, splitter.calls


@pytest.mark.parametrize(("voice", "text", "expected"), CASES, ids=lambda value: str(value)[:40])
def test_each_family_is_understood_whole_and_letter_by_letter(voice, text, expected):
    for pieces in ([text], text):
        together, calls = parts(voice, pieces)
        assert together == expected
        assert calls == expected.get(CALL, "").count("\n")


marks = st.sampled_from(
    ["<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", MOTH]
)
texts = st.lists(marks | st.text("a<[{ \n", max_size=4), max_size=8)


@settings(max_examples=60)
@given(texts, st.sampled_from([THINKER, TAGGED, LISTED, WHOLE, BOTH]))
def test_how_tokens_fall_changes_nothing(pieces, voice):
    text = "".join(pieces)
    assert parts(voice, pieces) == parts(voice, [text]) == parts(voice, text)


def test_text_leaves_as_soon_as_it_is_certain():
    splitter = Splitter(TAGGED)
    assert splitter.push("Yes <") == [(SAY, "Yes ")]
    assert splitter.push("b>") == [(SAY, "<b>")]
    assert splitter.push("<tool_call>" + MOTH[:9]) == []
    assert splitter.channel is CALL
    (said,) = splitter.push(MOTH[9:] + "</tool_call>")
    assert json.loads(said.text) == json.loads(MOTH)
