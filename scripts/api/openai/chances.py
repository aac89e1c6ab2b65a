"""Probabilities in OpenAI's shapes: of each token, and of what might have stood in its place."""

from collections.abc import Sequence
from typing import Final

from inference.client import Piece
from scripts.failure import Document

THOUSANDTHS: Final = 1_000


def of_chat(pieces: Sequence[Piece], shown: int) -> Document | None:
    """Of all tokens with a text, `shown` alternatives each; None if none was told."""
    tokens = [token for piece in pieces for token in _tokens(piece)]
    if not tokens:
        return None
    content = [
        {**_entry(text, chance), "top_logprobs": [_entry(*one) for one in others[:shown]]}
        for text, chance, others in tokens
    ]
    return {"content": content, "refusal": None}


def of_text(pieces: Sequence[Piece], shown: int, start: int = 0) -> Document | None:
    """The same as /v1/completions has it; `start`: characters of the answer before."""
    tokens = [token for piece in pieces for token in _tokens(piece)]
    if not tokens:
        return None
    texts = [text.decode(errors="replace") for text, _, _ in tokens]
    offsets = [start + sum(map(len, texts[:at])) for at in range(len(texts))]
    return {
        "tokens": texts,
        "token_logprobs": [_natural(chance) for _, chance, _ in tokens],
        "top_logprobs": [
            {text.decode(errors="replace"): _natural(chance) for text, chance in others[:shown]}
            for _, _, others in tokens
        ],
        "text_offset": offsets,
    }


_Token = tuple[bytes, int, list[tuple[bytes, int]]]


def _tokens(piece: Piece) -> list[_Token]:
    """Tokens with their probability and alternatives; one that ends an answer has no text."""
    if piece.logprobs is None or piece.top is None or piece.texts is None:
        return []
    rows = zip(piece.logprobs, piece.top, piece.texts, strict=True)
    return [
        (texts[0], chance, [(text, p) for text, (_, p) in zip(texts[1:], top, strict=True)])
        for chance, top, texts in rows
        if texts[0]
    ]


def _entry(text: bytes, chance: int) -> Document:
    return {
        "token": text.decode(errors="replace"),
        "logprob": _natural(chance),
        "bytes": list(text),
    }


def _natural(chance: int) -> float:
    """A natural logarithm, of thousandths as they travel."""
    return -chance / THOUSANDTHS
