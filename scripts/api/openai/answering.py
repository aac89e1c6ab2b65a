"""An ask of the network, told to one of OpenAI's clients."""

import json
import time
from collections.abc import Mapping
from typing import Final, final

from inference.client import AskFailed, Chosen, Done, Offered, Piece
from scripts.api import answer as answers
from scripts.api.asking import Asker, failure
from scripts.api.events import Stream, Work
from scripts.api.openai import errors
from scripts.api.openai.request import Form
from scripts.api.openai.shapes import TOOL_CALL, Shape
from scripts.failure import Document, Failed, Failure

DONE: Final = "data: [DONE]\n\n"


def work(asker: Asker, form: Form, request_id: str) -> Work:
    """What answers one request. 200 leaves only after an accepted offer."""

    async def telling(stream: Stream) -> None:
        telling = _Telling(asker, form, request_id, stream)
        try:
            async with asker.answer(form.request, form.wish) as answer:
                stream.when_left(answer.stop)
                async for event in answer:
                    await telling.hear(event)
        except Failed as failed:
            await telling.fail(failed.failure)

    return telling


@final
class _Telling:
    """One answer on its way."""

    def __init__(self, asker: Asker, form: Form, request_id: str, stream: Stream) -> None:
        self._asker = asker
        self._form = form
        self._id = request_id
        self._stream = stream
        self._chosen: Chosen | None = None
        self._shape: Shape | None = None
        self._headers: Mapping[str, str] = {}
        self._pieces: list[Piece] = []
        """with probabilities, of an answer that is told whole"""
        self._said = 0
        """characters"""

    async def hear(self, event: object) -> None:
        """Tell what comes of it, if it is for such a client."""
        match event:
            case Chosen():
                self._chosen = event
            case Offered():
                await self._begin(event)
            case Piece():
                await self._take(event)
            case Done():
                await self._asker.keep(event)
                await self._end(event)
            case AskFailed():
                await self.fail(failure(event))
            case _:
                pass

    async def _take(self, piece: Piece) -> None:
        """Pass it on, or keep it for the whole; calls wait for the end, where they are checked."""
        assert self._shape is not None
        if not self._form.is_stream:
            self._pieces += [piece] if piece.logprobs else []
        elif piece.channel != TOOL_CALL and (piece.text or piece.logprobs):
            await self._say(self._shape.piece(piece, self._said))
            self._said += len(piece.text)

    async def fail(self, failed: Failure) -> None:
        """As a status if nothing has been said, else as the last event."""
        if not self._stream.begun:
            await self._stream.fail(failed)
            return
        await self._say(errors.document(failed))
        await self._stream.write(DONE)

    async def _begin(self, offered: Offered) -> None:
        if self._shape is not None:  # another worker, after the first was lost
            return
        chosen = self._chosen
        assert chosen is not None
        kind = "chatcmpl" if self._form.is_chat else "cmpl"
        self._shape = Shape(
            id=f"{kind}-{self._id}",
            created=int(time.time()),
            model=chosen.model,
            fingerprint=f"tussah-{offered.numerics.hex()}",
            is_chat=self._form.is_chat,
            has_usage=self._form.has_usage and self._form.is_stream,
            shown=self._form.shown,
        )
        self._headers = _headers(chosen, offered, self._form)
        if self._form.is_stream:
            await self._stream.begin(self._headers)
            if self._form.is_chat:
                await self._say(self._shape.first())

    async def _end(self, done: Done) -> None:
        shape, answer = self._shape, answers.ask(done, self._asker.terms(), self._id)
        assert shape is not None
        if not self._form.is_stream:
            await self._stream.whole(shape.whole(answer, done, self._pieces), self._headers)
            return
        for number, call in enumerate(done.calls):
            await self._say(shape.call(call, number))
        await self._say(shape.last(answer))
        if shape.has_usage:
            await self._say(shape.usage(answer))
        await self._stream.write(DONE)

    async def _say(self, document: Document) -> None:
        await self._stream.write(f"data: {json.dumps(document)}\n\n")


def _headers(chosen: Chosen, offered: Offered, form: Form) -> dict[str, str]:
    ignored = {"x-tussah-ignored": ", ".join(form.ignored)} if form.ignored else {}
    return {
        "x-tussah-worker": offered.worker.hex(),
        "x-tussah-model-hash": chosen.identity.hex(),
        "x-tussah-relays": str(len(chosen.path) - 1),
        "x-tussah-quote-nano": str(offered.quoted.value),
        **ignored,
    }
