"""Text out of tokens: whole characters only, and never the beginning of a stop string."""

import codecs
from collections.abc import Sequence
from typing import final


@final
class Text:
    """Turns the bytes of successive tokens into text that will not have to be taken back.

    Bytes are held while they are part of a character, or could still become a stop string; so
    text that was given out stays true whatever follows. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self, stops: Sequence[bytes]) -> None:
        self._stops = tuple(stops)
        self._held = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.stopped = False
        """A stop string came; what follows it is dropped."""

    def push(self, data: bytes) -> str:
        """Add a token's bytes; the text that is certain now."""
        self._held += data
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            certain, self._held = self._held[: min(found)], b""
            return self._decoder.decode(certain, final=True)
        return self._decoder.decode(self._release(len(self._held) - self._overlap()))

    def finish(self) -> str:
        """The answer is over: what was held is text after all."""
        return self._decoder.decode(self._release(len(self._held)), final=True)

    def _release(self, count: int) -> bytes:
        released, self._held = self._held[:count], self._held[count:]
        return released

    def _overlap(self) -> int:
        """Bytes at the end that begin a stop string: the longest such suffix."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0
