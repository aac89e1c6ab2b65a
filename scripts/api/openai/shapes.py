"""Answers in OpenAI's shapes: whole, and chunk by chunk."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scripts.failure import Document

OPENAI_WORDS: Final = ("stop", "length", "tool_calls")
"""Ends that its clients know; `tussah.finish` has ours."""

REASONING: Final = 1
"""Channel of what a model thinks before it answers."""


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

    # --- a stream ---

    def first(self) -> Document:
        """Before any text."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str, channel: int) -> Document:
        """The next text."""
        return self._chunk({_field(channel): text}, None, text)

    def last(self, answer: Document) -> Document:
        """The end; without a chunk of usage it has all there is to say of the answer."""
        chunk = self._chunk({}, finish(answer))
        return chunk if self.has_usage else {**chunk, "tussah": own(answer)}

    def usage(self, answer: Document) -> Document:
        """The chunk after the end, for who asked for it."""
        chunk = {**self._chunk({}, None), "choices": []}
        return {**chunk, "usage": usage(answer), "tussah": own(answer)}

    def _chunk(self, delta: Document, end: str | None, text: str = "") -> Document:
        choice: dict[str, object] = {"index": 0, "finish_reason": end, "logprobs": None}
        choice |= {"delta": delta} if self.is_chat else {"text": text}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self.has_usage else chunk

    # --- a whole answer ---

    def whole(self, answer: Document, reasoning: str) -> Document:
        """All at once."""
        text = answer["answer"]
        choice: dict[str, object] = {
            "index": 0,
            "finish_reason": finish(answer),
            "logprobs": None,
        }
        message = {"role": "assistant", "content": text, "refusal": None}
        if reasoning:
            message["reasoning_content"] = reasoning
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
