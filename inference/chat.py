"""A model's chat template: a program of strangers, rendered where it can reach nothing.

The only module that imports jinja2. The sandbox keeps a template from our objects; here its
output is bounded, and the operators that make much out of little are. Time is bounded by whoever
calls: the engine's child, which can be interrupted.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn, final

import jinja2
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inference.schema import Json
from p2p.errors import BadModel

MAX_OUTPUT: Final = 4 * 1024 * 1024
"""characters of a rendered prompt: the largest request there is."""

MAX_REPEATED: Final = 65_536
"""elements of a sequence that `*` may make in a template; padding needs a few."""

MAX_POWER: Final = 64
"""bits of what `**` may make."""


_FIRST_DAY: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TemplateRefused(jinja2.TemplateError):
    """The template itself refuses these messages, or wants too much."""


@final
class _Environment(ImmutableSandboxedEnvironment):
    """As transformers sets it up, with two operators fenced."""

    intercepted_binops = ("*", "**")  # type: ignore[assignment]  # jinja2 only asks what is in it

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            autoescape=False,
            extensions=[loopcontrols],
        )
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _refuse

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        if operator == "**":
            _check_power(left, right)
        else:
            _check_product(left, right)
        return super().call_binop(context, operator, left, right)


def _check_power(left: object, right: object) -> None:
    if not isinstance(left, int) or not isinstance(right, int):
        return
    if right > MAX_POWER or left.bit_length() * max(right, 0) > MAX_POWER:
        raise TemplateRefused("a power too large")


def _check_product(left: object, right: object) -> None:
    if isinstance(left, int):
        left, right = right, left
    if not isinstance(left, str | bytes | list | tuple) or not isinstance(right, int):
        return
    if len(left) * right > MAX_REPEATED:
        raise TemplateRefused("a repetition too long")


def _refuse(message: str) -> NoReturn:
    raise TemplateRefused(message)


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


@final
class Template:
    """A compiled template. Raises `BadModel` if it is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._template = _Environment().from_string(text)
        except (jinja2.TemplateError, RecursionError) as error:
            raise BadModel("chat template") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Json]],
        *,
        special: Mapping[str, str],
        date: int | None = None,
        tools: Sequence[Json] | None = None,
    ) -> str | None:
        """The prompt for an answer to `messages`, each a `role` and a `content` at least; None if
        the template refuses them or breaks. `tools` are what the model may call, in OpenAI's form.

        `special` holds the texts of the model's begin and end tokens. `date`, days since 1970,
        is the only day a template can learn; an answer could not be replayed on another day if
        it asked the clock.
        """
        said = [dict(message) for message in messages]
        names: dict[str, object] = {**special, "messages": said, "add_generation_prompt": True}
        if tools is not None:
            names["tools"] = list(tools)
        try:
            if date is not None:
                names["strftime_now"] = (_FIRST_DAY + timedelta(days=date)).strftime
            return self._bounded(names)
        except Exception:  # the boundary to a stranger's program: it can raise whatever it likes
            # There is no traceback to keep: that may quote the messages.
            return None

    def _bounded(self, names: Mapping[str, object]) -> str:
        parts: list[str] = []
        room = MAX_OUTPUT
        for part in self._template.generate(names):
            room -= len(part)
            if room < 0:
                raise TemplateRefused("too much output")
            parts.append(part)
        return "".join(parts)
