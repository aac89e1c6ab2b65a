"""Tools in a conversation: how a model is told of them, and how it says that it calls one.

A template that knows tools is fed them as transformers feeds it. One that does not, the built-in
model's among them, is fed a conversation in which they are told in words: a system message with
their schemas, calls as the JSON that was asked for, results as messages of the user.
"""

import json
from collections.abc import Mapping
from typing import Final, TypeAlias

from inference import schema
from inference.engine.base import THOUGHTS, ChatMessage, Prompt, Tool, ToolStyle, Voice
from inference.engine.split import CALL_CLOSES, CALL_OPENS, LIST_OPENS
from inference.schema import Json, Unusable

Message: TypeAlias = Mapping[str, Json]

TOLD: Final = (
    "You can call tools. To call one, answer with nothing but a JSON object of the form "
    '{"name": "the tool", "arguments": {...}}, the arguments by the tool\'s schema. '
    "If no tool is needed, answer as usual.\n\nTools:\n"
)


def knows_tools(template: str) -> bool:
    """Whether a template tells the model of tools by itself."""
    return "tools" in template


def style_of(template: str) -> ToolStyle:
    """How the models that a template is for write their calls."""
    if CALL_OPENS in template:
        return ToolStyle.TAGGED
    return ToolStyle.LISTED if LIST_OPENS in template else ToolStyle.WHOLE


def voice_of(template: str, rendered: str, prompt: Prompt) -> Voice:
    """How the answer to a rendered prompt is to be taken apart."""
    thought = next((name for name, (opens, _) in THOUGHTS.items() if opens in template), "")
    opens, _ = THOUGHTS[thought or "think"]
    return Voice(
        thought=thought,
        opened=bool(thought) and rendered.rstrip().endswith(opens),
        style=style_of(template) if prompt.tools else None,
        tools=tuple(tool.name for tool in prompt.tools),
        parallel=prompt.parallel,
    )


def grammar_for(template: str, prompt: Prompt) -> str | Unusable | None:
    """What the answer is held to: a call of a forced tool, or the asker's schema; None if free."""
    if prompt.forced:
        forced = [(one.name, one.parameters) for one in prompt.tools if one.name in prompt.forced]
        calls = schema.calls_of(forced)
        if isinstance(calls, Unusable):
            return calls
        return schema.grammar_of(calls, *_AROUND[style_of(template)])
    if not prompt.schema:
        return None
    wanted = schema.parsed(prompt.schema)
    return wanted if isinstance(wanted, Unusable) else schema.grammar_of(wanted)


_AROUND: Final[Mapping[ToolStyle, tuple[str, str]]] = {
    ToolStyle.TAGGED: (f"{CALL_OPENS}\n", f"\n{CALL_CLOSES}"),
    ToolStyle.LISTED: ("[", "]"),
    ToolStyle.WHOLE: ("", ""),
}


def conversation(template: str, prompt: Prompt) -> tuple[list[Message], list[Json] | None]:
    """The messages for a template, and the tools if it knows any."""
    if not prompt.tools:
        return [_message(one) for one in prompt.messages], None
    if knows_tools(template):
        return [_message(one) for one in prompt.messages], [_tool(one) for one in prompt.tools]
    return _in_words(prompt), None


def _message(message: ChatMessage) -> Message:
    plain: dict[str, Json] = {"role": message.role, "content": message.content}
    if message.calls:
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _object(call.arguments)},
            }
            for call in message.calls
        ]
    if message.call:
        plain["tool_call_id"] = message.call
    return plain


def _tool(tool: Tool) -> Json:
    function = {"name": tool.name, "description": tool.description}
    return {"type": "function", "function": {**function, "parameters": _object(tool.parameters)}}


def _object(text: str) -> Json:
    value = schema.parsed(text)
    return {} if isinstance(value, Unusable) else value


def _in_words(prompt: Prompt) -> list[Message]:
    told = TOLD + "\n".join(json.dumps(_tool(one), ensure_ascii=False) for one in prompt.tools)
    messages, rest = [], prompt.messages
    if rest and rest[0].role in ("system", "developer"):
        told, rest = f"{rest[0].content}\n\n{told}", rest[1:]
    messages.append({"role": "system", "content": told})
    names = {call.id: call.name for message in rest for call in message.calls}
    return [*messages, *(_worded(message, names) for message in rest)]


def _worded(message: ChatMessage, names: Mapping[str, str]) -> Message:
    if message.call:
        name = names.get(message.call, "the tool")
        return {"role": "user", "content": f"Result of {name}: {message.content}"}
    said = [message.content] if message.content or not message.calls else []
    said += [_written(call.name, call.arguments) for call in message.calls]
    return {"role": message.role, "content": "\n".join(said)}


def _written(name: str, arguments: str) -> str:
    return json.dumps({"name": name, "arguments": _object(arguments)}, ensure_ascii=False)
