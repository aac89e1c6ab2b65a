"""The program's own words: static dotted events with keys, and a redactor nothing gets around.

No prompt, answer, key or whole address reaches a log, whoever tries to log one. The standard
library's logging is switched off: libraries write addresses there.
"""

import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import TextIO

import structlog

from scripts.redaction import HIDDEN, SECRETS, scrub
from scripts.settings import Log


@contextmanager
def configured(settings: Log) -> Iterator[None]:
    """Send the log where the settings say; the file is closed in the end."""
    logging.disable(logging.CRITICAL)
    with ExitStack() as stack:
        stack.callback(structlog.configure, **structlog.get_config())
        file: TextIO = sys.stderr
        if settings.file:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            descriptor = os.open(settings.file, flags, 0o600)
            file = stack.enter_context(os.fdopen(descriptor, "a", encoding="utf-8"))
        _configure(settings, file)
        yield


def _configure(settings: Log, file: TextIO) -> None:
    level: int = getattr(logging, settings.level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            _renderer(settings, file),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=file),
        cache_logger_on_first_use=False,
    )


def _renderer(settings: Log, file: TextIO) -> structlog.typing.Processor:
    console = settings.format == "console" or (settings.format == "auto" and file.isatty())
    if console:
        colours = file.isatty() and not os.environ.get("NO_COLOR")
        return structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=_plainly)
    return structlog.processors.JSONRenderer(default=repr)


def _plainly(file: TextIO, info: object) -> None:
    """Tracebacks are text by now: the renderer must not add its own, with variables."""


def redact(
    logger: object, method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Hide what no log may hold: a structlog processor, the last before rendering."""
    for key, value in event.items():
        if key in SECRETS:
            event[key] = HIDDEN
        elif key != "timestamp":
            event[key] = _clean(value)
    return event


def _clean(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    return scrub(value if isinstance(value, str) else repr(value))
