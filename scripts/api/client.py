"""The other end of the control API, for programs without trio: the command line, the demo.

Plain blocking sockets: Ctrl-C closes the connection, and the node cancels what was asked.
"""

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Final, TypeAlias, final

from scripts.failure import Document, Failed, parse

PATIENCE: Final = 60.0
"""seconds without a byte before the node counts as stuck; it says something every 10."""

MOVING: Final = 180.0
"""seconds for what waits for circuits and blocks: the first purchase opens a lane on the chain."""

LONGEST: Final = 3_630.0
"""seconds for the head of an answer, which waits for a worker: the longest deadline and a bit."""

LOST: Final = "internal"
"""Code of a node that ended in the middle of an answer, or broke its own protocol."""

MAX_LINE: Final = 16 * 1024 * 1024
"""bytes of one event: a whole answer fits many times."""

Event: TypeAlias = tuple[str, Document]
"""The name and data of a server-sent event."""

Tell: TypeAlias = Callable[[str], None]


def call(
    path: Path,
    method: str,
    target: str,
    body: Document | None = None,
    *,
    patience: float = PATIENCE,
) -> Document:
    """One request and its document, which may take `patience` seconds to begin.

    Raises `Failed`: `not_running` if no node listens on the socket `path`, else what it says.
    """
    with _response(_Connection(path, patience), method, target, body) as response:
        document: Document = json.loads(response.read())
        return document


def stream(path: Path, method: str, target: str, body: Document) -> Iterator[Event]:
    """The events of a request, as they come. Leaving the iteration cancels the request.

    Raises `Failed` as `call` does; a failure in mid-stream is raised as well.
    """
    yield from Stream(path, method, target, body)


@final
class Stream:
    """The events of a request, once; `stop` may be called meanwhile, in a signal handler too."""

    def __init__(self, path: Path, method: str, target: str, body: Document) -> None:
        self._connection = _Connection(path, LONGEST)
        self._request = method, target, body
        self._stopped = False

    def stop(self) -> None:
        """Want no more: the node says how it ended, and that comes as the last event."""
        self._stopped = True
        self._connection.say_no_more()

    def __iter__(self) -> Iterator[Event]:
        """As `stream`. Raises `Failed` (`cancelled`) if it was stopped without a last word."""
        try:
            if self._stopped:
                raise Failed("cancelled", "Interrupted.")
            with _response(self._connection, *self._request) as response:
                for name, document in _events(response):
                    if name == "error":
                        raise _from(document)
                    yield name, document
        except Failed as failed:
            if self._stopped and failed.failure.code == LOST:
                raise Failed("cancelled", "Interrupted.") from failed
            raise


def question(
    prompt: str,
    *,
    model: str | None = None,
    max_tokens: int | None = None,
    relays: int | None = None,
    shaping: int | None = None,
    swift: bool | None = None,
    deadline_s: float | None = None,
    max_price_nano: int | None = None,
    buy: bool | None = None,
) -> Document:
    """The body of `POST /ask` for a single question; None leaves it to the node's settings."""
    tussah = given(
        {
            "relays": relays,
            "shaping": shaping,
            "swift": swift,
            "deadline_s": deadline_s,
            "max_price_nano": max_price_nano,
            "buy": buy,
        }
    )
    return conversation([said("user", prompt)], model=model, max_tokens=max_tokens, tussah=tussah)


def conversation(
    messages: Sequence[Document],
    *,
    model: str | None,
    max_tokens: int | None,
    tussah: Document,
) -> Document:
    """The body of `POST /ask` for what was said so far; `tussah` holds what OpenAI has not."""
    fields = given({"model": model, "max_tokens": max_tokens})
    return {"messages": list(messages), **fields, "tussah": tussah}


def said(role: str, text: str) -> Document:
    """One message of a conversation."""
    return {"role": role, "content": text}


def ask(path: Path, body: Document, tell: Tell) -> Document:
    """Ask, pass each piece of the answer to `tell` as it comes, and return the ask document."""
    for name, document in stream(path, "POST", "/ask", body):
        if name == "piece" and not document["channel"]:
            tell(str(document["text"]))
        elif name == "done":
            return document
    raise Failed("internal", "The node ended the answer without a word.", "See its log.")


def given(fields: Mapping[str, object]) -> dict[str, object]:
    """Those fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


# --- HTTP on a unix socket ---


@final
class _Connection(HTTPConnection):
    """HTTP over the control socket; the host name is only for the header.

    The first line of the response may take `patience` seconds, and every further one `PATIENCE`.
    """

    def __init__(self, path: Path, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self.path = path
        self.listening = socket.socket(socket.AF_UNIX)

    def connect(self) -> None:
        self.sock = self.listening
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))

    def say_no_more(self) -> None:
        """Close our side; theirs may still say something."""
        with suppress(OSError):  # not connected yet, or no more
            self.listening.shutdown(socket.SHUT_WR)


@contextmanager
def _response(
    connection: _Connection, method: str, target: str, body: Document | None
) -> Iterator[HTTPResponse]:
    try:
        yield _request(connection, method, target, body)
    except (OSError, HTTPException, ValueError) as error:
        message = f"The node did not finish its answer: {str(error) or type(error).__name__}."
        raise Failed(LOST, message, "See `tussah status` and the node's log.") from error
    finally:
        connection.close()
        connection.listening.close()


def _request(
    connection: _Connection, method: str, target: str, body: Document | None
) -> HTTPResponse:
    try:
        connection.connect()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        message = f"No node is running: nothing listens on {connection.path}."
        raise Failed("not_running", message, "Start one with `tussah up`.") from error
    raw = None if body is None else json.dumps(body).encode()
    connection.request(method, target, raw, {"Content-Type": "application/json"})
    response = connection.getresponse()
    connection.listening.settimeout(PATIENCE)
    if response.status != 200:
        raise _from(json.loads(response.read()))
    return response


def _from(document: object) -> Failed:
    failure = parse(document)
    return Failed(failure.code, failure.message, failure.advice, failure.param, failure.cost)


def _events(response: HTTPResponse) -> Iterator[Event]:
    """Server-sent events: `event:` and one `data:` line each, comments in between."""
    name = ""
    while line := response.readline(MAX_LINE):
        key, _, value = line.decode().rstrip("\n").partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)
