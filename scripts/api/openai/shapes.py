"""Answers in OpenAI's shapes: whole, and chunk by chunk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from inference.client import Done, Piece
from inference.engine.base import Call
from scripts.api.openai import chances
from scripts.failure import Document

OPENAI_WORDS: Final = ("stop", "length", "tool_calls")
"""Ends that its clients know; `tussah.finish` has ours."""

CONTENT, REASONING, TOOL_CALL = 0, 1, 2
"""Channels: what a model says, what it thinks before, and which tools it calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What all chunks of one answer share."""

    id: str
    created: int
    """Unix seconds"""
    model: str
    fingerprint: str
    """Of the arithmetic that made it: a seed repeats an answer only under the same."""
    is_chat: bool
    has_usage: bool
    shown: int = 0
    """Alternatives shown per token."""

    # --- a stream ---

    def first(self) -> Document:
        """Before any text."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, piece: Piece, start: int) -> Document:
        """The next text, of a chat's content or reasoning; `start`: characters before it."""
        chances = self._chances([piece], start)
        return self._chunk({_field(piece.channel): piece.text}, None, piece.text, chances)

    def call(self, call: Call, number: int) -> Document:
        """A tool that is called: whole, since only a whole call can be made."""
        return self._chunk({"tool_calls": [{"index": number, **_call(call)}]}, None)

    def last(self, answer: Document) -> Document:
        """The end; without a chunk of usage it has all there is to say of the answer."""
        chunk = self._chunk({}, finish(answer))
        return chunk if self.has_usage else {**chunk, "tussah": own(answer)}

    def usage(self, answer: Document) -> Document:
        """The chunk after the end, for who asked for it."""
        chunk = {**self._chunk({}, None), "choices": []}
        return {**chunk, "usage": usage(answer), "tussah": own(answer)}

    def _chances(self, pieces: Sequence[Piece], start: int = 0) -> Document | None:
        said = [piece for piece in pieces if piece.channel == CONTENT]
        if self.is_chat:
            return chances.of_chat(said, self.shown)
        return chances.of_text(said, self.shown, start)

    def _chunk(
        self, delta: Document, end: str | None, text: str = "", logprobs: Document | None = None
    ) -> Document:
        choice: dict[str, object] = {"index": 0, "finish_reason": end, "logprobs": logprobs}
        choice |= {"delta": delta} if self.is_chat else {"text": text}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self.has_usage else chunk

    # --- a whole answer ---

    def whole(self, answer: Document, done: Done, pieces: Sequence[Piece]) -> Document:
        """All at once; `pieces` are what it came in."""
        text = answer["answer"]
        choice: dict[str, object] = {
            "index": 0,
            "finish_reason": finish(answer),
            "logprobs": self._chances(pieces),
        }
        message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
        if done.reasoning:
            message["reasoning_content"] = done.reasoning
        if done.calls:
            message |= {"content": text or None, "tool_calls": [*map(_call, done.calls)]}
        choice |= {"message": message} if self.is_chat else {"text": text}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage(answer),
            "tussah": own(answer),
        }

    def _head(self, kind: str) -> dict[str, object]:
        return {
            "id": self.id,
            "object": kind if self.is_chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def _call(call: Call) -> Document:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _field(channel: int) -> str:
    return "reasoning_content" if channel == REASONING else "content"


def finish(answer: Document) -> str:
    """Why it ended, in OpenAI's words: what ended early is as if it had been too long."""
    word = str(answer["finish"])
    return word if word in OPENAI_WORDS else "length"


def own(answer: Document) -> Document:
    """The `ask` document without the answer itself."""
    return {name: value for name, value in answer.items() if name != "answer"}


def usage(answer: Document) -> Document:
    """Tokens, as the receipt counts them."""
    counted = answer["usage"]
    assert isinstance(counted, Mapping)
    return {
        "prompt_tokens": counted["prompt_tokens"],
        "completion_tokens": counted["completion_tokens"],
        "total_tokens": counted["total_tokens"],
        "prompt_tokens_details": {"cached_tokens": counted["cached_tokens"]},
        "completion_tokens_details": {"reasoning_tokens": counted["reasoning_tokens"]},
    }
