"""An answer's text, taken apart: what a model thinks, what it says, and which tools it calls.

Models write all three as one text, each family in its own marks. Text leaves as soon as it is sure
where it belongs; a call leaves whole, as one line of JSON: `{"name": ..., "arguments": {...}}`.
"""

import json
from enum import Enum
from typing import Final, NamedTuple, TypeAlias, final

from inference import strict
from inference.engine.base import Channel, ToolStyle, Voice

CALL_OPENS, CALL_CLOSES = "<tool_call>", "</tool_call>"
LIST_OPENS: Final = "[TOOL_CALLS]"

NAME: Final = "name"
ARGUMENTS: Final = ("arguments", "parameters")
"""of a call, by the family of models"""

_Call: TypeAlias = dict[str, object]


class Said(NamedTuple):
    """Text that is certain, and where it belongs."""

    channel: Channel
    text: str


class _Place(Enum):
    """What the text that comes next is."""

    START = "start"
    THOUGHT = "thought"
    CONTENT = "content"
    CALL = "call"
    REST = "rest"
    """a call, or several, if all to the end can be read as such"""


@final
class Splitter:
    """One answer's."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._held = ""
        self._place = _Place.THOUGHT if voice.opened else _Place.START
        self._thinks = bool(voice.thought)
        self._was_thought = voice.opened
        self.calls = 0
        """tools called so far"""
        if not self._thinks and voice.style is None:
            self._place = _Place.CONTENT

    @property
    def channel(self) -> Channel:
        """Where a token that comes next belongs."""
        match self._place:
            case _Place.THOUGHT:
                return Channel.REASONING
            case _Place.CALL | _Place.REST:
                return Channel.TOOL_CALL
            case _:
                return Channel.CONTENT

    def push(self, text: str) -> list[Said]:
        """Add text; what is certain now."""
        self._held += text
        said: list[Said] = []
        while self._advance(said):
            pass
        return said

    def finish(self) -> list[Said]:
        """The answer is over: what was held is what it looks like now."""
        held, self._held = self._held, ""
        if self._place in (_Place.CALL, _Place.REST):
            calls = self._calls(held)
            raw = CALL_OPENS + held if self._place is _Place.CALL else held
            return calls or [Said(Channel.CONTENT, raw)]
        return [Said(self.channel, held)] if held else []

    # --- one step: True if more may follow ---

    def _advance(self, said: list[Said]) -> bool:
        match self._place:
            case _Place.START:
                return self._begin()
            case _Place.THOUGHT:
                _, closes = self._voice.marks
                return self._until(closes, said, _Place.START)
            case _Place.CONTENT if self._voice.style is ToolStyle.TAGGED:
                return self._until(CALL_OPENS, said, _Place.CALL)
            case _Place.CONTENT:
                self._emit(said, len(self._held))
                return False
            case _Place.CALL:
                return self._close_call(said)
            case _Place.REST:
                return False

    def _begin(self) -> bool:
        """Before the first word, or the first after a thought: what kind of text it begins."""
        stripped = self._held.lstrip()
        if not stripped:
            return False
        opens, _ = self._voice.marks
        if self._thinks and opens.startswith(stripped[: len(opens)]):
            if len(stripped) < len(opens):
                return False
            self._held, self._place = stripped[len(opens) :], _Place.THOUGHT
            self._thinks, self._was_thought = False, True
            return True
        calls = self._begins_calls(stripped)
        if calls is None:
            return False
        self._place = _Place.REST if calls else _Place.CONTENT
        self._held = stripped if calls or self._was_thought else self._held
        return True

    def _begins_calls(self, text: str) -> bool | None:
        """Whether it is a call without a mark; None if that cannot be said yet."""
        match self._voice.style:
            case ToolStyle.WHOLE:
                return text.startswith("{")
            case ToolStyle.LISTED:
                if text in ("[", *(LIST_OPENS[:size] for size in range(1, len(LIST_OPENS)))):
                    return None
                return text.startswith((LIST_OPENS, "[{"))
            case _:
                return False

    def _until(self, mark: str, said: list[Said], then: _Place) -> bool:
        """Text up to a mark; the mark itself is not shown."""
        at = self._held.find(mark)
        if at < 0:
            self._emit(said, len(self._held) - _overlap(self._held, mark))
            return False
        self._emit(said, at)
        self._held, self._place = self._held[len(mark) :], then
        self._thinks = False
        return True

    def _close_call(self, said: list[Said]) -> bool:
        at = self._held.find(CALL_CLOSES)
        if at < 0:
            return False
        text, self._held = self._held[:at], self._held[at + len(CALL_CLOSES) :]
        said += self._calls(text) or [Said(Channel.CONTENT, CALL_OPENS + text + CALL_CLOSES)]
        self._place = _Place.CONTENT
        return True

    def _emit(self, said: list[Said], count: int) -> None:
        text, self._held = self._held[:count], self._held[count:]
        if text:
            said.append(Said(self.channel, text))

    def _calls(self, text: str) -> list[Said]:
        """The calls in a text, a line each; none unless all of it can be read as calls."""
        try:
            value = strict.parse(text.strip().removeprefix(LIST_OPENS))
        except ValueError:
            return []
        calls = [self._call(one) for one in (value if isinstance(value, list) else [value])]
        lines = [json.dumps(call, ensure_ascii=False) for call in calls if call is not None]
        if not lines or len(lines) != len(calls):
            return []
        if not self._voice.parallel:
            lines = lines[: max(0, 1 - self.calls)]
        self.calls += len(lines)
        return [Said(Channel.TOOL_CALL, line + "\n") for line in lines]

    def _call(self, value: object) -> _Call | None:
        if not isinstance(value, dict) or value.get(NAME) not in self._voice.tools:
            return None
        given: object = next((value[key] for key in ARGUMENTS if key in value), {})
        if isinstance(given, str):  # some write the arguments as JSON within JSON
            try:
                given = strict.parse(given)
            except ValueError:
                return None
        return {NAME: value[NAME], "arguments": given} if isinstance(given, dict) else None


def _overlap(text: str, mark: str) -> int:
    """Characters at the end of a text that begin a mark: the longest such suffix."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if mark.startswith(text[-size:]):
            return size
    return 0
