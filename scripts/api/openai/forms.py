"""What an answer is to be like: a schema, tools, probabilities; from OpenAI's fields to an ask.

What no worker could follow is refused here by name, so that it neither costs anything nor looks
done.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from inference.body import MAX_TOOLS
from inference.client import AskRequest
from inference.engine.base import MAX_LOGPROBS, Call, ChatMessage, Tool
from inference.schema import Json, Unusable, calls_of, grammar_of, parsed
from scripts.api import asking
from scripts.api.asking import Body, wrong

FIELDS: Final = (
    *("response_format", "tools", "tool_choice", "parallel_tool_calls", "logprobs"),
    "top_logprobs",
)

ANY_OBJECT: Final = '{"type":"object"}'
"""what `json_object` asks for"""

NO_PARAMETERS: Final = '{"type":"object","additionalProperties":false}'
"""a tool that says nothing of arguments takes none"""


def formed(request: AskRequest, fields: Body) -> AskRequest:
    """The request with what its fields say of the answer's form. Raises `Failed`."""
    tools, forced = _tools(fields)
    parallel = asking.yes(fields, "parallel_tool_calls")
    return replace(
        request,
        messages=_with_calls(request.messages, fields),
        schema="" if forced else _schema(fields.get("response_format")),
        tools=tools,
        forced=forced,
        parallel=parallel is not False or not tools,
        logprobs=_logprobs(fields),
    )


# --- schemas ---


def _schema(given: object) -> str:
    """The JSON schema that is asked for; empty if any text will do."""
    if given is None:
        return ""
    match given:
        case {"type": "text"}:
            return ""
        case {"type": "json_object"}:
            return ANY_OBJECT
        case {"type": "json_schema", "json_schema": wanted}:
            return _followed(wanted)
        case _:
            raise wrong("response_format", "its type must be text, json_object or json_schema")


def _followed(given: object) -> str:
    place = "response_format.json_schema.schema"
    schema = given.get("schema") if isinstance(given, Mapping) else None
    if not isinstance(schema, Mapping):
        raise wrong(place, "it must be a JSON schema")
    return _checked(_written(schema, place), place)


def _checked(written: str, place: str) -> str:
    """A schema that a worker can follow."""
    schema = parsed(written)
    grammar = schema if isinstance(schema, Unusable) else grammar_of(schema)
    if isinstance(grammar, Unusable):
        raise wrong(place, f"at {grammar.place}, {grammar.why}")
    return written


def _written(value: object, place: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise wrong(place, "it must be JSON, not too deep") from error


# --- tools ---


def _tools(fields: Body) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The tools that may be called, and those of which one must be."""
    given, choice = fields.get("tools") or (), fields.get("tool_choice")
    if not isinstance(given, list | tuple) or len(given) > MAX_TOOLS:
        raise wrong("tools", f"it must be a list of at most {MAX_TOOLS}")
    tools = tuple(_tool(one, f"tools[{at}]") for at, one in enumerate(given))
    names = tuple(tool.name for tool in tools)
    if len({*names}) < len(names):
        raise wrong("tools", "two of them have one name")
    forced = _forced(choice, names)
    return (() if choice == "none" else tools), forced


def _tool(given: object, place: str) -> Tool:
    kind = given.get("type") if isinstance(given, Mapping) else None
    function = given.get("function") if isinstance(given, Mapping) else None
    if kind != "function" or not isinstance(function, Mapping):
        raise wrong(place, "only functions can be called")
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not asking.is_name(name):
        raise wrong(f"{place}.function.name", "it must have 1 to 64 letters, digits, _ or -")
    text = parameters if parameters is not None else json.loads(NO_PARAMETERS)
    if not isinstance(text, Mapping):
        raise wrong(f"{place}.function.parameters", "it must be a JSON schema")
    return Tool(
        name=name,
        description=str(function.get("description") or ""),
        parameters=_written(text, f"{place}.function.parameters"),
    )


def _forced(choice: object, names: Sequence[str]) -> tuple[str, ...]:
    match choice:
        case None | "auto" | "none":
            return ()
        case "required" if names:
            return tuple(names)
        case {"type": "function", "function": {"name": str() as name}} if name in names:
            return (name,)
        case _:
            raise wrong("tool_choice", "it must be none, auto, required or the name of a tool")


def check_forced(request: AskRequest) -> None:
    """Raise `Failed` if the arguments of a tool that must be called cannot be held to."""
    forced = [(tool.name, tool.parameters) for tool in request.tools if tool.name in request.forced]
    if not forced:
        return
    schema: Json | Unusable = calls_of(forced)
    grammar = schema if isinstance(schema, Unusable) else grammar_of(schema)
    if isinstance(grammar, Unusable):
        raise wrong("tools", f"at {grammar.place}, {grammar.why}")


def _with_calls(messages: Sequence[ChatMessage], fields: Body) -> tuple[ChatMessage, ...]:
    """The messages with the calls and results that stand beside their text."""
    given = fields.get("messages") or ()
    assert isinstance(given, Sequence)
    pairs = zip(messages, given, strict=True)
    return tuple(_called(*pair, f"messages[{at}]") for at, pair in enumerate(pairs))


def _called(message: ChatMessage, given: object, place: str) -> ChatMessage:
    assert isinstance(given, Mapping)
    calls, result = given.get("tool_calls") or (), given.get("tool_call_id") or ""
    if not isinstance(calls, list | tuple) or (calls and message.role != "assistant"):
        raise wrong(f"{place}.tool_calls", "it must be a list, of an assistant's message")
    if not isinstance(result, str) or (bool(result) != (message.role == "tool")):
        raise wrong(f"{place}.tool_call_id", "it must be the id of a call, of a tool's message")
    if result and not asking.is_name(result):
        raise wrong(f"{place}.tool_call_id", "it must be an id that a call had")
    every = tuple(_call(one, f"{place}.tool_calls[{at}]") for at, one in enumerate(calls))
    return replace(message, calls=every, call=result)


def _call(given: object, place: str) -> Call:
    match given:
        case {"id": str() as id_, "function": {"name": str() as name, "arguments": str() as text}}:
            if asking.is_name(id_) and asking.is_name(name):
                return Call(id=id_, name=name, arguments=text)
        case _:
            pass
    raise wrong(place, "it must be a call of a function, as an answer had it")


# --- probabilities ---


def _logprobs(fields: Body) -> int:
    """Alternatives per token. A worker tells the token's own probability with one at least."""
    given, top = fields.get("logprobs"), fields.get("top_logprobs")
    if given is not None and not isinstance(given, bool):
        raise wrong("logprobs", "it must be true or false")
    if top is not None and not given:
        raise wrong("top_logprobs", "it must come with logprobs")
    if top is None:
        return 1 if given else 0
    if not isinstance(top, int) or isinstance(top, bool) or not 0 <= top <= MAX_LOGPROBS:
        raise wrong("top_logprobs", f"it must be a whole number between 0 and {MAX_LOGPROBS}")
    return max(1, top)


def legacy_logprobs(fields: Body) -> int:
    """As /v1/completions asks for them: a number."""
    given = fields.get("logprobs")
    if given is None or given is False:
        return 0
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= MAX_LOGPROBS:
        raise wrong("logprobs", f"it must be a whole number between 0 and {MAX_LOGPROBS}")
    return max(1, given)
