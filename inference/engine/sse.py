"""Server-sent events as the standard has them: however bytes fall, whatever ends a line."""

from typing import Final, final

from p2p.errors import RemoteError

MAX_EVENT: Final = 1024 * 1024
"""bytes of one event"""


@final
class SseReader:
    """Bytes in, the data of whole events out. Raises `RemoteError` for one that never ends."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_return = False

    def feed(self, data: bytes) -> list[str]:
        """Take bytes; the events that are whole with them."""
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]  # of a \r\n that fell apart
        self._after_return = data.endswith(b"\r") if data else self._after_return
        *ended, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events = [event for line in ended if (event := self._end(line)) is not None]
        self._line += rest
        if len(self._line) + self._size > MAX_EVENT:
            raise RemoteError("an event of the server has no end")
        return events

    def _end(self, tail: bytes) -> str | None:
        """A line is whole; the event that it ends, if it is empty."""
        line, self._line = bytes(self._line) + tail, bytearray()
        if not line:
            data, self._data, self._size = self._data, [], 0
            return b"\n".join(data).decode(errors="replace") if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(line)
        return None
