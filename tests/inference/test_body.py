"""The JSON of a prompt: one form, a closed set of keys, bounded before it is parsed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import body
from inference.body import Field, Question
from inference.engine.base import Call, ChatMessage, Prompt, Tool
from inference.protocol import Refusal, Refuse, Work

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
chats = (
    st.lists(
        st.builds(ChatMessage, role=st.sampled_from(sorted(body.ROLES)), content=text),
        min_size=1,
        max_size=5,
    )
    .map(tuple)
    .filter(lambda chat: any(message.content.strip() for message in chat))
)
stops = st.lists(text.filter(bool).map(lambda t: t[:20]), max_size=4).map(tuple)
biases = st.dictionaries(st.integers(0, 10**6), st.integers(-100_000, 100_000), max_size=5).map(
    lambda d: tuple(sorted(d.items()))
)
questions = st.builds(
    Question,
    prompt=st.builds(Prompt, messages=chats, stop=stops)
    | st.builds(Prompt, text=text.filter(str.strip), stop=stops),
    bias=biases,
)


@given(questions)
def test_a_question_reads_back(question):
    written = body.write(question)
    assert body.read(written, body.work_of(question.prompt)) == question


def test_a_body_has_one_form():
    question = Question(
        prompt=Prompt(messages=(ChatMessage(role="user", content="hé"),), stop=("x",)),
        bias=((5, -100),),
    )
    assert body.write(question).decode() == (
        '{"logit_bias":{"5":-100},"messages":[{"content":"hé","role":"user"}],"stop":["x"]}'
    )


def test_tools_and_schemas_read_back_with_their_properties_in_order():
    schema = '{"type":"object","properties":{"b":{},"a":{}}}'
    call = Call(id="call_1", name="f", arguments='{"x": 1}')
    prompt = Prompt(
        messages=(
            ChatMessage(role="assistant", content="", calls=(call,)),
            ChatMessage(role="tool", content="42", call="call_1"),
        ),
        schema=schema,
        tools=(Tool(name="f", description="", parameters=schema),),
        forced=("f",),
    )
    question = Question(prompt=prompt)
    assert body.read(body.write(question), Work.CHAT) == question


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tools": [{"name": "f"}]}, Field.TOOLS),
        ({"tools": [{"name": "a b", "description": "", "parameters": {}}]}, Field.TOOLS),
        ({"forced": ["f"]}, Field.TOOLS),
        ({"schema": "object"}, Field.SCHEMA),
        ({"messages": [{"role": "user", "content": "", "tool_call_id": "x"}]}, Field.MESSAGES),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]}, Field.MESSAGES),
    ],
    ids=str,
)
def test_forms_that_are_none_are_refused_by_field(more, field):
    said = {"messages": [json.loads(USER)], **more}
    assert body.read(json.dumps(said).encode(), Work.CHAT) == Refusal(Refuse.BAD_REQUEST, field)


@given(st.binary(max_size=60))
def test_noise_is_refused_without_a_word(data):
    for work in Work:
        assert isinstance(body.read(data, work), Refusal)


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u2003"])
def test_a_blank_prompt_is_none(blank):
    chat = Prompt(messages=(ChatMessage(role="user", content=blank),))
    for prompt, field in [(chat, Field.MESSAGES), (Prompt(text=blank), Field.PROMPT)]:
        written = body.write(Question(prompt=prompt))
        assert body.read(written, body.work_of(prompt)) == Refusal(Refuse.BAD_REQUEST, field)


USER = '{"role":"user","content":"hi"}'


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("", Field.JSON),
        ("[]", Field.JSON),
        ("NaN", Field.JSON),
        ('{"messages":[], "messages":[]}', Field.JSON),
        ('{"messages":[' + USER + '],"stop":NaN}', Field.JSON),
        ("[" * 33 + "]" * 33, Field.JSON),
        ("[" * 100_000, Field.JSON),
        ('{"messages":[' + "[]," * 100_000 + "[]]}", Field.JSON),
        ("9" * 10_000, Field.JSON),
        ("{}", Field.MESSAGES),
        ('{"messages":[]}', Field.MESSAGES),
        ('{"messages":{}}', Field.MESSAGES),
        ('{"messages":["hi"]}', Field.MESSAGES),
        ('{"messages":[{"role":"user"}]}', Field.MESSAGES),
        ('{"messages":[{"role":"god","content":"hi"}]}', Field.MESSAGES),
        ('{"messages":[{"role":"user","content":[]}]}', Field.MESSAGES),
        ('{"messages":[{"role":"user","content":"hi","name":"me"}]}', Field.MESSAGES),
        ('{"messages":[{"role":"user","content":"\\ud800"}]}', Field.MESSAGES),
        ('{"prompt":"hi"}', Field.UNKNOWN),
        ('{"user":"me","messages":[' + USER + "]}", Field.UNKNOWN),
        ('{"stop":"x","messages":[' + USER + "]}", Field.STOP),
        ('{"stop":[""],"messages":[' + USER + "]}", Field.STOP),
        ('{"stop":["a","b","c","d","e"],"messages":[' + USER + "]}", Field.STOP),
        ('{"stop":["' + "é" * 129 + '"],"messages":[' + USER + "]}", Field.STOP),
        ('{"logit_bias":{"x":1},"messages":[' + USER + "]}", Field.LOGIT_BIAS),
        ('{"logit_bias":{"01":1},"messages":[' + USER + "]}", Field.LOGIT_BIAS),
        ('{"logit_bias":{"1":1.5},"messages":[' + USER + "]}", Field.LOGIT_BIAS),
        ('{"logit_bias":{"1":100001},"messages":[' + USER + "]}", Field.LOGIT_BIAS),
        ('{"logit_bias":[1],"messages":[' + USER + "]}", Field.LOGIT_BIAS),
    ],
)
def test_what_is_wrong_is_named(said, field):
    assert body.read(said.encode(), Work.CHAT) == Refusal(Refuse.BAD_REQUEST, field)


@pytest.mark.parametrize("said", ['{"prompt":""}', '{"prompt":5}', "{}"])
def test_a_text_is_not_empty(said):
    assert body.read(said.encode(), Work.TEXT) == Refusal(Refuse.BAD_REQUEST, Field.PROMPT)


@pytest.mark.parametrize("work", [Work.EMBED, Work.SCORE])
def test_other_work_has_no_body_yet(work):
    assert body.read(b"{}", work) == Refusal(Refuse.BAD_REQUEST, Field.WORK)


@pytest.mark.parametrize("key", ["images", "template"])
def test_keys_of_the_protocol_that_nobody_serves_are_unsupported(key):
    said = json.dumps({"messages": [json.loads(USER)], key: []}).encode()
    refusal = body.read(said, Work.CHAT)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Refuse.UNSUPPORTED


def test_brackets_inside_strings_are_no_depth():
    question = Question(prompt=Prompt(text="[" * 100 + '\\"' + "{" * 100))
    assert body.read(body.write(question), Work.TEXT) == question


@pytest.mark.parametrize("end", ["", "\\", '"'])
def test_quotes_without_end_are_read_once(end):
    """A scan that read on to the end from every quote would take days for this."""
    text = '"' + '\\"' * 2_000_000 + end
    assert isinstance(body.read(text.encode(), Work.CHAT), Refusal)
