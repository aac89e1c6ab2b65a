"""What OpenAI's clients ask: fields that go to the worker, stay here, are dropped or refused.

What would change the answer and cannot be done is refused by name. The rest, which could only name
the asker, is dropped, and the response says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from inference.client import AskRequest
from inference.engine.base import MILLE
from scripts.api import asking
from scripts.api.asking import Body, Wish, wrong
from scripts.api.openai import forms

MAX_BIASES: Final = 300
"""tokens of a `logit_bias`."""

TOKEN_DIGITS: Final = 7
"""decimal digits of a token's number: no vocabulary has ten million."""

HEADERS: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "x-tussah-max-price": ("max_price_nano", int),
    "x-tussah-relays": ("relays", int),
    "x-tussah-shaping": ("shaping", int),
    "x-tussah-worker": ("worker", str),
    "x-tussah-deadline": ("deadline_s", float),
}
"""For clients that cannot add to a body: header -> field of `tussah`, which is heard first."""

HERE: Final = ("stream", "stream_options", "n", "best_of", "prompt", "logit_bias")
"""What this side does."""

REFUSED: Final[Mapping[str, str]] = {
    "functions": "functions are asked for as tools",
    "function_call": "functions are asked for as tools",
    "audio": "no worker makes sound",
    "modalities": "no worker makes anything but text",
    "suffix": "no worker fills in between texts yet",
    "echo": "the prompt is not sent back",
}
"""What would change the answer, and why it is not done."""

IDLE: Final[Mapping[str, object]] = {"modalities": ["text"], "function_call": "none"}
"""Values, besides empty ones, with which a refused field asks for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One request, taken apart."""

    request: AskRequest
    wish: Wish
    is_chat: bool
    is_stream: bool
    shown: int
    """Alternatives shown per token; a worker may tell one more."""
    has_usage: bool
    """A stream ends with a chunk of usage."""
    ignored: tuple[str, ...]


def chat(body: object, headers: Mapping[str, str]) -> Form:
    """A request to /v1/chat/completions. Raises `Failed` (`invalid_request`) naming the field."""
    fields = _checked(body)
    request = forms.formed(asking.request_of(_taken(fields)), fields)
    forms.check_forced(request)
    shown = fields.get("top_logprobs") or 0
    return _form(fields, headers, request, is_chat=True, shown=shown)


def completion(body: object, headers: Mapping[str, str]) -> Form:
    """A request to /v1/completions: a text to be continued as it stands. Raises `Failed`."""
    fields = _checked(body)
    most = forms.legacy_logprobs(fields)
    request = replace(
        asking.sampling_of(_taken(fields)), text=_prompt(fields.get("prompt")), logprobs=most
    )
    return _form(fields, headers, request, is_chat=False, shown=fields.get("logprobs") or 0)


def _form(
    fields: Body,
    headers: Mapping[str, str],
    request: AskRequest,
    *,
    is_chat: bool,
    shown: object,
) -> Form:
    assert isinstance(shown, int)
    options = fields.get("stream_options") or {}
    if not isinstance(options, Mapping):
        raise wrong("stream_options", "it must be an object")
    known = (*asking.FIELDS, *HERE, *REFUSED, *forms.FIELDS)
    return Form(
        request=replace(request, bias=_biases(fields.get("logit_bias"))),
        wish=asking.wish_of(_wishes(fields, headers)),
        is_chat=is_chat,
        is_stream=bool(asking.yes(fields, "stream")),
        shown=shown,
        has_usage=bool(asking.yes(options, "include_usage")),
        ignored=tuple(sorted(str(name) for name in fields if name not in known)),
    )


def _checked(body: object) -> Body:
    if not isinstance(body, Mapping):
        raise wrong("body", "it must be a JSON object")
    for name in ("n", "best_of"):
        if body.get(name) not in (None, 1):
            raise wrong(name, "one request has one answer")
    for name, why in REFUSED.items():
        if body.get(name) and body[name] != IDLE.get(name):
            raise wrong(name, why)
    return body


def _taken(fields: Body) -> Body:
    return {name: value for name, value in fields.items() if name in asking.FIELDS}


def _wishes(fields: Body, headers: Mapping[str, str]) -> Body:
    own = fields.get("tussah") or {}
    if not isinstance(own, Mapping):
        raise wrong("tussah", "it must be an object")
    asking.check_fields(own, asking.WISHES, "tussah.")
    return {**dict(_said(headers)), **own}


def _said(headers: Mapping[str, str]) -> "list[tuple[str, object]]":
    """What headers wish for."""
    wishes: list[tuple[str, object]] = []
    for header, (field, read) in HEADERS.items():
        if header in headers and field in asking.WISHES:
            try:
                wishes.append((field, read(headers[header])))
            except ValueError as error:
                raise wrong(header, "it must be a number") from error
    return wishes


def _prompt(prompt: object) -> str:
    text = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    if not isinstance(text, str) or not text:
        raise wrong("prompt", "it must be one text: tokens differ from model to model")
    return text


def _biases(given: object) -> tuple[tuple[int, int], ...]:
    """Token -> what is added to its logit, in thousandths."""
    if given is None:
        return ()
    if not isinstance(given, Mapping) or len(given) > MAX_BIASES:
        raise wrong("logit_bias", f"it must be an object of at most {MAX_BIASES} tokens")
    return tuple(sorted(_bias(token, bias) for token, bias in given.items()))


def _bias(token: object, bias: object) -> tuple[int, int]:
    is_number = isinstance(bias, int | float) and not isinstance(bias, bool)
    is_token = isinstance(token, str) and token.isdecimal() and len(token) <= TOKEN_DIGITS
    if not (is_token and is_number):
        raise wrong("logit_bias", "it must map numbers of tokens to numbers")
    assert isinstance(token, str)
    assert isinstance(bias, int | float)
    if not -100 <= bias <= 100:
        raise wrong("logit_bias", "each must be between -100 and 100")
    return int(token), round(bias * MILLE)
