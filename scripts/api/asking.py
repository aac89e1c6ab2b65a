"""A request in JSON becomes an ask; what the ask says becomes server-sent events.

The fields of a request are OpenAI's, with our own inside `tussah`. An unknown field is refused by
name: what was asked for and not done must not look like done.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from inference.body import NAME
from inference.client import (
    Answer,
    AskFailed,
    AskRequest,
    Bought,
    Chosen,
    Done,
    Offered,
    Opening,
    Piece,
    Progress,
    Purchase,
)
from inference.engine.base import MAX_STOPS, MILLE, ChatMessage
from ledger.money import MAX_NANO, Nano
from p2p.identity import AdnlId
from p2p.onion.shaping import Shaping
from scripts.api import answer as answers
from scripts.api import purchases
from scripts.api.events import Stream, Work
from scripts.failure import Failed, Failure, suggestion

ROLES: Final = ("system", "developer", "user", "assistant", "tool")

MAX_DEADLINE: Final = 3_600.0
"""seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How to ask; None leaves it to the settings."""

    relays: int | None = None
    shaping: Shaping | None = None
    swift: bool | None = None
    deadline_s: float | None = None
    worker: AdnlId | None = None
    max_price: Nano | None = None
    buy: bool | None = None
    """Whether credits may be bought where there are too few."""


class Asker(Protocol):
    """Who turns a request into an answer: the node, or a test's stand-in."""

    def answer(self, request: AskRequest, wish: Wish) -> AbstractAsyncContextManager[Answer]:
        """Ask. Raises `Failed` if this node cannot ask at all now."""

    def terms(self) -> answers.Terms:
        """What the documents of an ask say of the network."""

    async def keep(self, done: Done) -> None:
        """Keep the receipt of an answer."""


def work(asker: Asker, request: AskRequest, wish: Wish, request_id: str) -> Work:
    """What streams the answer: 200 only after an accepted offer, `done` or `error` last."""

    async def stream_answer(stream: Stream) -> None:
        async with asker.answer(request, wish) as answer:
            stream.when_left(answer.stop)
            async for event in answer:
                await _tell(stream, event, asker, request_id)

    return stream_answer


async def _tell(stream: Stream, event: object, asker: Asker, request_id: str) -> None:
    match event:
        case Offered():
            await _offered(stream, event)
        case Purchase() | Opening() | Bought():
            await purchases.tell(stream, event, asker.terms())
        case Progress():
            await stream.event("progress", answers.progress(event))
        case Piece(text=text, channel=channel) if text:
            await stream.event("piece", {"text": text, "channel": channel})
        case Done():
            await asker.keep(event)
            document = answers.ask(event, asker.terms(), request_id)
            await stream.event("done", document)
        case AskFailed():
            await stream.fail(failure(event))
        case Chosen() | _:
            pass


async def _offered(stream: Stream, offered: Offered) -> None:
    if not stream.begun:
        await stream.begin({"x-tussah-worker": offered.worker.hex()})
    await stream.event("offered", answers.offered(offered))


def failure(failed: AskFailed) -> Failure:
    """Why there is no answer, as the API says it, and what was paid all the same."""
    cost = answers.cost(failed.quoted, failed.paid) if failed.quoted else None
    return Failure(code=failed.code, message=failed.message, advice=failed.advice, cost=cost)


# --- requests ---

Body: TypeAlias = Mapping[str, object]


def parse(body: object) -> tuple[AskRequest, Wish]:
    """The ask that a JSON body describes. Raises `Failed` (`invalid_request`) naming the field."""
    if not isinstance(body, Mapping):
        raise wrong("body", "it must be a JSON object")
    check_fields(body, FIELDS, "")
    tussah = body.get("tussah", {})
    if not isinstance(tussah, Mapping):
        raise wrong("tussah", "it must be an object")
    check_fields(tussah, WISHES, "tussah.")
    return request_of(body), wish_of(tussah)


FIELDS: Final = (
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p"),
    *("top_k", "min_p", "frequency_penalty", "presence_penalty", "stop", "seed", "tussah"),
)

WISHES: Final = ("relays", "shaping", "swift", "deadline_s", "worker", "max_price_nano", "buy")


def request_of(body: Body) -> AskRequest:
    """What OpenAI's fields ask for. Raises `Failed` naming the one that does not do."""
    return replace(sampling_of(body), messages=_messages(body))


def sampling_of(body: Body) -> AskRequest:
    """The same without anything said: model, length, sampling."""
    plain = AskRequest()
    most = _whole(body, "max_completion_tokens", low=1, high=2**31 - 1)
    return AskRequest(
        model=_text(body, "model", plain.model),
        max_tokens=most or _whole(body, "max_tokens", low=1, high=2**31 - 1),
        temperature=_mille(body, "temperature", plain.temperature, high=2),
        top_p=_mille(body, "top_p", plain.top_p, high=1),
        top_k=_whole(body, "top_k", low=0, high=1_000) or 0 if "top_k" in body else plain.top_k,
        min_p=_mille(body, "min_p", plain.min_p, high=1),
        frequency=_mille(body, "frequency_penalty", plain.frequency, low=-2, high=2),
        presence=_mille(body, "presence_penalty", plain.presence, low=-2, high=2),
        stop=_stops(body),
        seed=_whole(body, "seed", low=-(2**63), high=2**63 - 1),
    )


def wish_of(tussah: Body) -> Wish:
    """What our own fields ask for. Raises `Failed` naming the one that does not do."""
    deadline = _real(tussah, "deadline_s", low=1.0, high=MAX_DEADLINE)
    cap = _whole(tussah, "max_price_nano", low=0, high=MAX_NANO)
    level = _whole(tussah, "shaping", low=0, high=2)
    return Wish(
        max_price=None if cap is None else Nano(cap),
        relays=_whole(tussah, "relays", low=0, high=3),
        shaping=None if level is None else Shaping(level),
        swift=yes(tussah, "swift"),
        deadline_s=deadline,
        worker=_worker(tussah),
        buy=yes(tussah, "buy"),
    )


def _worker(tussah: Body) -> AdnlId | None:
    text = tussah.get("worker")
    if text is None:
        return None
    try:
        raw = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise wrong("tussah.worker", "it must be an id of 64 hex digits")
    return AdnlId(raw)


def _messages(body: Body) -> tuple[ChatMessage, ...]:
    messages = body.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise wrong("messages", "it must be a list with at least one message")
    return tuple(_message(message, f"messages[{at}]") for at, message in enumerate(messages))


def _message(message: object, place: str) -> ChatMessage:
    if not isinstance(message, Mapping):
        raise wrong(place, "it must be an object")
    role, said = message.get("role"), message.get("content")
    content = (
        "" if said is None and message.get("tool_calls") else _content(said, f"{place}.content")
    )
    if role not in ROLES:
        raise wrong(f"{place}.role", f"it must be one of {', '.join(ROLES)}")
    return ChatMessage(role=str(role), content=content)


def is_name(text: str) -> bool:
    """Whether a tool may be called so, or a call have this id."""
    return NAME.fullmatch(text) is not None


def _content(content: object, place: str) -> str:
    """Text, or the texts of parts, one below the other."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise wrong(place, "it must be text or a list of parts")
    return "\n".join(_part(part, f"{place}[{at}]") for at, part in enumerate(content))


def _part(part: object, place: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind != "text" or not isinstance(text, str):
        raise wrong(place, "only parts of text can be asked: no worker reads images or sound yet")
    return text


def _stops(body: Body) -> tuple[str, ...]:
    given = body.get("stop")
    stops = [given] if isinstance(given, str) else given or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise wrong("stop", "it must be text or a list of texts")
    if len(stops) > MAX_STOPS:
        raise wrong("stop", f"at most {MAX_STOPS} are possible")
    return tuple(stops)


# --- fields ---


def check_fields(body: Body, known: Sequence[str], prefix: str) -> None:
    """Raise `Failed` for the first field that is not known."""
    for name in body:
        if name not in known:
            raise Failed(
                "invalid_request",
                f"The request has a field {prefix}{name}, which this API does not know.",
                suggestion(str(name), list(known)),
                param=f"{prefix}{name}",
            )


def wrong(param: str, why: str) -> Failed:
    """That a field does not do, and why."""
    return Failed("invalid_request", f"The request's {param} does not do: {why}.", param=param)


def _text(body: Body, name: str, default: str) -> str:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise wrong(name, "it must be text")
    return value


def _whole(body: Body, name: str, *, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise wrong(name, f"it must be a whole number between {low} and {high}")
    return value


def yes(body: Body, name: str) -> bool | None:
    """A field that is true, false or not there. Raises `Failed`."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(name, "it must be true or false")
    return value


def _real(body: Body, name: str, *, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise wrong(name, f"it must be a number between {low:g} and {high:g}")
    return float(value)


def _mille(body: Body, name: str, default: int, *, low: float = 0, high: float) -> int:
    """A number in thousandths: the same integer on both sides of the network."""
    value = _real(body, name, low=low, high=high)
    return default if value is None else round(value * MILLE)
