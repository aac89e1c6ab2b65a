"""The JSON inside a prompt: what the template is fed, and nothing that names who asks.

The keys are a closed set and written in one order, so that a body shows what is asked and not by
which program. A worker reads it before any library sees it: bounded, shallow, no key twice.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from inference.engine.base import MAX_STOP, MAX_STOPS, Call, ChatMessage, Tool
from inference.engine.base import Prompt as EnginePrompt
from inference.protocol import Need, Refusal, Refuse, Work

MAX_DEPTH: Final = 32
"""containers inside containers"""

MAX_PARTS: Final = 65_536
"""strings and brackets"""

MAX_MESSAGES: Final = 4_096
MAX_TOOLS: Final = 128
"""tools of a request, and calls of a message: OpenAI's own bound"""

MAX_BIAS: Final = 1_024
"""tokens with a bias: OpenAI's own bound."""

BIAS_BOUND: Final = 100_000
"""thousandths"""

ROLES: Final = ("system", "developer", "user", "assistant", "tool")


class Field(IntEnum):
    """What `detail` of BAD_REQUEST names; smaller numbers are settings."""

    JSON = 16
    MESSAGES = 17
    PROMPT = 18
    STOP = 19
    LOGIT_BIAS = 20
    UNKNOWN = 21
    WORK = 22
    WANT = 23
    TOOLS = 24
    SCHEMA = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A body that was read."""

    prompt: EnginePrompt
    """Without the date, which does not stand in the body."""
    bias: tuple[tuple[int, int], ...] = ()


def write(question: Question) -> bytes:
    """The body of a question."""
    prompt = question.prompt
    said: dict[str, object] = {
        "forced": list(prompt.forced),
        "logit_bias": {str(token): value for token, value in question.bias},
        "messages": [_said(message) for message in prompt.messages],
        "prompt": prompt.text,
        "schema": json.loads(prompt.schema) if prompt.schema else None,
        "stop": list(prompt.stop),
        "tools": [_told(tool) for tool in prompt.tools],
    }
    if not prompt.schema:
        del said["schema"]
    every = {key: value for key, value in said.items() if value or key == "schema"}
    return _compact(every).encode()


def _said(message: ChatMessage) -> dict[str, object]:
    said: dict[str, object] = {"content": message.content, "role": message.role}
    if message.call:
        said["tool_call_id"] = message.call
    if message.calls:
        said["tool_calls"] = [
            {"arguments": call.arguments, "id": call.id, "name": call.name}
            for call in message.calls
        ]
    return said


def _told(tool: Tool) -> dict[str, object]:
    """The order of a schema's properties is the order in which they will be answered: it stays."""
    return {
        "description": tool.description,
        "name": tool.name,
        "parameters": json.loads(tool.parameters),
    }


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read(body: bytes, work: Work) -> Question | Refusal:
    """The question in a body, or why it is none."""
    try:
        return _question(_parse(body), work)
    except _Bad as bad:
        return bad.refusal


def work_of(prompt: EnginePrompt) -> Work:
    """What kind of work a prompt is."""
    return Work.CHAT if prompt.text is None else Work.TEXT


_Json: TypeAlias = bool | int | float | str | Sequence["_Json"] | Mapping[str, "_Json"] | None
_Object: TypeAlias = Mapping[str, _Json]

_KEYS: Final[Mapping[Work, tuple[str, ...]]] = {
    Work.CHAT: ("messages", "stop", "logit_bias", "schema", "tools", "forced"),
    Work.TEXT: ("prompt", "stop", "logit_bias", "schema"),
}
_UNSUPPORTED: Final[Mapping[str, Need]] = {"images": Need.VISION, "template": Need.NONE}
"""Keys of the protocol that this worker cannot serve, and the need each stands for."""

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""of a tool, and an id of a call: OpenAI's own rule"""

_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[][{}]', re.DOTALL)
"""A string, to its end or to the text's, or a bracket outside of any. It never backtracks, and a
quote always matches: else every quote of an open string would read on to the end again."""


class _Bad(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def _bad(field: Field) -> _Bad:
    return _Bad(Refusal(Refuse.BAD_REQUEST, field))


def _parse(body: bytes) -> _Object:
    try:
        text = body.decode()
        _check_shape(text)
        parsed: _Json = json.loads(text, object_pairs_hook=_pairs, parse_constant=_no_constant)
    except ValueError as error:
        raise _bad(Field.JSON) from error
    if not isinstance(parsed, Mapping):
        raise _bad(Field.JSON)
    return parsed


def _check_shape(text: str) -> None:
    """Refuse what is too deep or of too many parts, before the parser builds any of it."""
    depth = 0
    for count, token in enumerate(_TOKEN.finditer(text)):
        character = text[token.start()]
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        if depth > MAX_DEPTH or count > MAX_PARTS:
            raise _bad(Field.JSON)


def _pairs(pairs: list[tuple[str, _Json]]) -> _Object:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _question(fields: _Object, work: Work) -> Question:
    allowed = _KEYS.get(work)
    if allowed is None:
        raise _bad(Field.WORK)
    for key in fields:
        if key in _UNSUPPORTED:
            raise _Bad(Refusal(Refuse.UNSUPPORTED, _UNSUPPORTED[key]))
        if key not in allowed:
            raise _bad(Field.UNKNOWN)

    prompt = EnginePrompt(
        messages=_messages(fields["messages"]) if "messages" in fields else (),
        text=_text(fields["prompt"], Field.PROMPT) if "prompt" in fields else None,
        stop=_stop(fields.get("stop", ())),
        schema=_schema(fields["schema"], Field.SCHEMA) if "schema" in fields else "",
        tools=tuple(_tool(one) for one in _list(fields.get("tools", ()), MAX_TOOLS, Field.TOOLS)),
        forced=tuple(_name(one) for one in _list(fields.get("forced", ()), MAX_TOOLS, Field.TOOLS)),
    )
    names = [tool.name for tool in prompt.tools]
    if not all(name in names for name in prompt.forced):
        raise _bad(Field.TOOLS)
    if not (prompt.text or "").strip() and not any(map(_says, prompt.messages)):
        raise _bad(Field.MESSAGES if work == Work.CHAT else Field.PROMPT)
    return Question(prompt=prompt, bias=_bias(fields.get("logit_bias", {})))


def _says(message: ChatMessage) -> bool:
    return bool(message.content.strip() or message.calls)


def _messages(value: _Json) -> tuple[ChatMessage, ...]:
    return tuple(_message(item) for item in _list(value, MAX_MESSAGES, Field.MESSAGES))


def _message(value: _Json) -> ChatMessage:
    if not isinstance(value, Mapping) or not all(key in _MESSAGE_KEYS for key in value):
        raise _bad(Field.MESSAGES)
    if "content" not in value or "role" not in value:
        raise _bad(Field.MESSAGES)
    role = _text(value["role"], Field.MESSAGES)
    calls = _list(value.get("tool_calls", ()), MAX_TOOLS, Field.MESSAGES)
    is_result = "tool_call_id" in value
    if role not in ROLES or (calls and role != "assistant") or (is_result and role != "tool"):
        raise _bad(Field.MESSAGES)
    return ChatMessage(
        role=role,
        content=_text(value["content"], Field.MESSAGES),
        calls=tuple(_call(one) for one in calls),
        call=_name(value["tool_call_id"], Field.MESSAGES) if is_result else "",
    )


_MESSAGE_KEYS: Final = ("content", "role", "tool_call_id", "tool_calls")


def _call(value: _Json) -> Call:
    if not isinstance(value, Mapping) or sorted(value) != ["arguments", "id", "name"]:
        raise _bad(Field.MESSAGES)
    return Call(
        id=_name(value["id"], Field.MESSAGES),
        name=_name(value["name"], Field.MESSAGES),
        arguments=_text(value["arguments"], Field.MESSAGES),
    )


def _tool(value: _Json) -> Tool:
    if not isinstance(value, Mapping) or sorted(value) != ["description", "name", "parameters"]:
        raise _bad(Field.TOOLS)
    return Tool(
        name=_name(value["name"]),
        description=_text(value["description"], Field.TOOLS),
        parameters=_schema(value["parameters"], Field.TOOLS),
    )


def _schema(value: _Json, field: Field) -> str:
    if not isinstance(value, Mapping | bool):
        raise _bad(field)
    return _text(_compact(value), field)


def _name(value: _Json, field: Field = Field.TOOLS) -> str:
    name = _text(value, field)
    if NAME.fullmatch(name) is None:
        raise _bad(field)
    return name


def _stop(value: _Json) -> tuple[str, ...]:
    stops = tuple(_text(item, Field.STOP) for item in _list(value, MAX_STOPS, Field.STOP))
    if not all(0 < len(stop.encode()) <= MAX_STOP for stop in stops):
        raise _bad(Field.STOP)
    return stops


def _bias(value: _Json) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, Mapping) or len(value) > MAX_BIAS:
        raise _bad(Field.LOGIT_BIAS)
    return tuple(sorted((_token(key), _thousandths(item)) for key, item in value.items()))


def _token(key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) <= 8 and key == str(int(key))):
        raise _bad(Field.LOGIT_BIAS)
    return int(key)


def _thousandths(value: _Json) -> int:
    if type(value) is not int or not -BIAS_BOUND <= value <= BIAS_BOUND:
        raise _bad(Field.LOGIT_BIAS)
    return value


def _list(value: _Json, most: int, field: Field) -> Sequence[_Json]:
    if not isinstance(value, list | tuple) or len(value) > most:
        raise _bad(field)
    return value


def _text(value: _Json, field: Field) -> str:
    if not isinstance(value, str):
        raise _bad(field)
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, as JSON may spell it
        raise _bad(field) from error
    return value
