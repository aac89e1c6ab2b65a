"""An engine that is another server: any that speaks OpenAI's protocol, on this machine or at home.

llama-server, Ollama, LM Studio, vLLM and their like. It has a vocabulary of its own that we do not
see, so prompts are counted by their bytes, as askers guess them, and an answer's tokens by the
pieces in which they come. Nor do we choose how it draws: such answers cannot be audited.
"""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias, final

import trio

from inference import strict
from inference.engine import http
from inference.engine.base import (
    MILLE,
    Begun,
    Channel,
    ChatMessage,
    EngineState,
    EngineStatistics,
    Failed,
    Fault,
    Finished,
    Generation,
    Job,
    Loaded,
    Piece,
    Plan,
    Prepared,
    Prompt,
    Reason,
    Sampling,
    Score,
    Scored,
    Tokens,
    Usage,
)
from inference.engine.http import Server
from inference.engine.sse import SseReader
from inference.engine.stream import EventStream
from p2p.errors import RemoteError, Unreachable

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

BYTES_PER_TOKEN: Final = 3
"""of a prompt: what an asker guesses its size class by"""

LOOK_EVERY: Final = 5.0
"""seconds between two looks at whether the server is there"""

MISSES: Final = 3
"""looks in vain after which it is not"""

MAX_REPLY: Final = 4 * 1024 * 1024
"""bytes of an answer that is no stream"""

TRIAL: Final = "Count from one to a hundred in words: one, two, three,"
TRIAL_TOKENS: Final = 32
"""what the speed is measured with when the engine is loaded"""

_DONE: Final = "[DONE]"

Json: TypeAlias = dict[str, object]


@dataclass(slots=True, kw_only=True)
class _Answer:
    """What has come of one answer."""

    prompt: int
    begun: bool = False
    written: int = 0
    reasoned: int = 0
    finish: str = ""
    calls: dict[int, tuple[str, str]] | None = None
    """by number: name and arguments as far as they came"""

    def usage(self) -> Usage:
        """As far as we can count."""
        completion = self.written - self.reasoned
        return Usage(prompt=self.prompt, completion=completion, reasoning=self.reasoned)


@final
class UpstreamEngine:
    """An `Engine` in front of a server. Start `run` in a nursery, then `load`."""

    def __init__(self, server: Server, *, model: str = "", key: str = "") -> None:
        self._server = server
        self._chosen = model
        self._key = key
        self._model = ""
        self._plan = Plan()
        self._state = EngineState.EMPTY
        self._limiter = trio.CapacityLimiter(1)
        self._rates: tuple[float, float] | None = None
        self._streams: dict[int, EventStream] = {}
        self._paused: dict[int, trio.Event] = {}
        self._nursery: trio.Nursery | None = None
        self._faults: Counter[Fault] = Counter()
        self._tokens_in = self._tokens_out = self._cancels = 0

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Look after the server until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            misses = 0
            while True:
                await trio.sleep(LOOK_EVERY)
                if self._state is EngineState.EMPTY:
                    continue
                misses = 0 if await self.models() else misses + 1
                self._state = EngineState.LOADING if misses >= MISSES else EngineState.READY

    @property
    def model(self) -> str:
        """The model's id there."""
        return self._model

    # --- the engine's contract ---

    async def load(self, plan: Plan) -> Loaded | Failed:
        """See what the server has, and measure how fast it is, once."""
        started = time.perf_counter()
        models = await self.models()
        if not models:
            return Failed(fault=Fault.UPSTREAM)
        self._model = self._chosen or models[0]
        if self._model not in models:
            return Failed(fault=Fault.NO_MODEL)
        self._plan, self._limiter = plan, trio.CapacityLimiter(plan.slots)
        self._rates = self._rates or await self._measured()
        if self._rates is None:
            return Failed(fault=Fault.UPSTREAM)
        self._state = EngineState.READY
        prompt_rate, answer_rate = self._rates
        return Loaded(
            numerics=sha256(f"upstream;{self._model}".encode()).digest()[:8],
            context=plan.context,
            slots=plan.slots,
            prompt_rate=prompt_rate,
            answer_rate=answer_rate,
            seconds=time.perf_counter() - started,
            grammars=True,
            tools=True,
            logprobs=False,
        )

    async def prepare(self, prompt: Prompt) -> Prepared | Failed:
        """The request that will be sent, three bytes to a token: nothing is rendered here."""
        await trio.lowlevel.checkpoint()
        if self._state is EngineState.EMPTY:
            return Failed(fault=Fault.NO_MODEL)
        if not prompt.text and not prompt.messages:
            return Failed(fault=Fault.BAD_REQUEST)
        tokens = packed(json.dumps(_question(prompt), ensure_ascii=False).encode())
        if len(tokens) >= self._plan.context:
            return Failed(fault=Fault.TOO_LONG, detail=self._plan.context)
        return Prepared(tokens=tokens, stop=tuple(stop.encode() for stop in prompt.stop))

    @asynccontextmanager
    async def generate(self, job: Job) -> AsyncIterator[Generation]:
        """Ask the server; leaving hangs up, which is how it hears of it."""
        if job.id in self._streams:
            raise ValueError(f"job {job.id} is here already")
        go = self._paused[job.id] = trio.Event()
        go.set()
        stream = EventStream(lambda: self._pause(job.id), lambda: self._resume(job.id))
        self._streams[job.id] = stream
        scope = trio.CancelScope()
        assert self._nursery is not None
        self._nursery.start_soon(self._run, job, stream, scope)
        try:
            yield stream
        finally:
            scope.cancel()
            del self._streams[job.id], self._paused[job.id]

    async def score(self, task: Score) -> Scored | Failed:
        """It has no seeds of ours: nothing can be held against it."""
        await trio.lowlevel.checkpoint()
        return Failed(fault=Fault.UNSUPPORTED)

    async def unload(self) -> None:
        """Take no more jobs; the server's memory is its own matter."""
        await trio.lowlevel.checkpoint()
        self._state = EngineState.EMPTY

    def statistics(self) -> EngineStatistics:
        """A snapshot."""
        return EngineStatistics(
            state=self._state,
            slots=self._plan.slots if self._state is EngineState.READY else 0,
            busy=self._limiter.borrowed_tokens,
            waiting=self._limiter.statistics().tasks_waiting,
            tokens_in=self._tokens_in,
            tokens_out=self._tokens_out,
            cancels=self._cancels,
            faults=dict(self._faults),
        )

    # --- one answer ---

    def _pause(self, job: int) -> None:
        if job in self._paused:
            self._paused[job] = trio.Event()

    def _resume(self, job: int) -> None:
        if job in self._paused:
            self._paused[job].set()

    async def _run(self, job: Job, stream: EventStream, scope: trio.CancelScope) -> None:
        """From the place in the queue to the last event."""
        if (failed := self._objection(job)) is not None:
            self._fail(stream, failed)
            return
        answer = _Answer(prompt=len(job.tokens))
        with scope:
            with trio.move_on_after(job.deadline_s) as patience:
                async with self._limiter:
                    answer.begun = True
                    stream.put(Begun(prompt=answer.prompt, cached=0))
                    self._tokens_in += answer.prompt
                    await self._answer(job, stream, answer)
            if patience.cancelled_caught:
                late = Finished(reason=Reason.DEADLINE, usage=answer.usage())
                stream.put(late if answer.begun else Failed(fault=Fault.DEADLINE))
        self._cancels += scope.cancelled_caught

    def _objection(self, job: Job) -> Failed | None:
        if self._state is EngineState.EMPTY:
            return Failed(fault=Fault.NO_MODEL)
        if len(job.tokens) + job.max_tokens > self._plan.context:
            return Failed(fault=Fault.TOO_LONG, detail=self._plan.context)
        return None

    async def _answer(self, job: Job, stream: EventStream, answer: _Answer) -> None:
        path, body = _request(job, self._model)
        try:
            async with http.request(self._server, "POST", path, body, key=self._key) as response:
                if response.status != 200:
                    self._fail(stream, Failed(fault=_FAULTS.get(response.status, Fault.UPSTREAM)))
                    return
                reader = SseReader()
                while data := await response.more():
                    for event in reader.feed(data):
                        if event == _DONE:
                            self._finish(stream, answer, job)
                            return
                        self._take(stream, answer, _object(event))
                        if answer.written >= job.max_tokens:
                            answer.finish = answer.finish or "length"
                            self._finish(stream, answer, job)
                            return
                    gate = self._paused.get(job.id)
                    if gate is None:  # left while this was on its way
                        return
                    await gate.wait()
                self._finish(stream, answer, job)
        except (RemoteError, Unreachable):
            self._fail(stream, Failed(fault=Fault.UPSTREAM))

    def _fail(self, stream: EventStream, failed: Failed) -> None:
        self._faults[failed.fault] += 1
        stream.put(failed)

    def _take(self, stream: EventStream, answer: _Answer, event: Json) -> None:
        """One event of the server's stream. Raises `RemoteError` if it reports an error."""
        if "error" in event:
            raise RemoteError("the server failed in the middle of the answer")
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(choice, dict):
            return
        delta = choice.get("delta") if isinstance(choice.get("delta"), dict) else choice
        assert isinstance(delta, dict)
        for field, channel in _FIELDS:
            text = delta.get(field)
            if isinstance(text, str) and text:
                self._piece(stream, answer, text, channel)
        if isinstance(delta.get("tool_calls"), list):
            self._called(stream, answer, delta["tool_calls"])
        if isinstance(choice.get("finish_reason"), str):
            answer.finish = str(choice["finish_reason"])

    def _piece(self, stream: EventStream, answer: _Answer, text: str, channel: Channel) -> None:
        """A piece counts as one token, as most servers send them; fewer than that it never is."""
        stream.put(Piece(first=answer.written, ids=(0,), text=text, channel=channel))
        answer.written += 1
        answer.reasoned += channel is Channel.REASONING
        self._tokens_out += 1

    def _called(self, stream: EventStream, answer: _Answer, deltas: list[object]) -> None:
        """Parts of calls, put together."""
        calls = answer.calls = answer.calls or {}
        for delta in deltas:
            function = delta.get("function") if isinstance(delta, dict) else None
            if not isinstance(delta, dict) or not isinstance(function, dict):
                continue
            number = delta.get("index", 0)
            name, arguments = calls.get(number if isinstance(number, int) else 0, ("", ""))
            calls[number if isinstance(number, int) else 0] = (
                name or str(function.get("name") or ""),
                arguments + str(function.get("arguments") or ""),
            )
            self._piece(stream, answer, "", Channel.TOOL_CALL)

    def _finish(self, stream: EventStream, answer: _Answer, job: Job) -> None:
        for name, arguments in (answer.calls or {}).values():
            call = {"name": name, "arguments": _object(arguments or "{}")}
            line = json.dumps(call, ensure_ascii=False) + "\n"
            last = Piece(first=answer.written, ids=(), text=line, channel=Channel.TOOL_CALL)
            stream.put(last)
        reason = _REASONS.get(answer.finish, Reason.STOP)
        if reason is Reason.LENGTH and answer.written < job.max_tokens:
            reason = (
                Reason.STOP
            )  # by its count, not by ours, which is what was asked for and billed
        stream.put(Finished(reason=reason, usage=answer.usage()))

    # --- the server ---

    async def models(self) -> list[str]:
        """The ids of its models; none if it does not answer."""
        try:
            with trio.move_on_after(LOOK_EVERY):
                async with http.request(
                    self._server, "GET", "/v1/models", key=self._key
                ) as response:
                    listed = _object((await response.whole(MAX_REPLY)).decode(errors="replace"))
                    data = listed.get("data")
                    models = data if isinstance(data, list) else []
                    return [
                        str(one["id"]) for one in models if isinstance(one, dict) and "id" in one
                    ]
        except (RemoteError, Unreachable):
            pass
        return []

    async def _measured(self) -> tuple[float, float] | None:
        """Tokens a second of a prompt and of an answer; None if it answers nothing."""
        self._state = EngineState.READY
        prepared = await self.prepare(Prompt(text=TRIAL))
        assert isinstance(prepared, Prepared)
        job = _trial(prepared)
        began = first = time.perf_counter()
        written = 0
        async with self.generate(job) as events:
            async for event in events:
                if isinstance(event, Piece):
                    first = first if written else time.perf_counter()
                    written += len(event.ids)
                elif isinstance(event, Failed):
                    self._state = EngineState.EMPTY
                    return None
        ended = time.perf_counter()
        if written < 2:
            return None
        return len(job.tokens) / (first - began), written / max(ended - first, 1e-6)


# --- requests ---


def packed(data: bytes) -> Tokens:
    """Bytes, three to a number, with the count of what fills up the last in front."""
    pad = -len(data) % BYTES_PER_TOKEN
    whole = data + bytes(pad)
    groups = range(0, len(whole), BYTES_PER_TOKEN)
    return (pad, *(int.from_bytes(whole[at : at + BYTES_PER_TOKEN], "big") for at in groups))


def unpacked(tokens: Tokens) -> bytes:
    """What `packed` was given."""
    pad, *groups = tokens
    data = b"".join(group.to_bytes(BYTES_PER_TOKEN, "big") for group in groups)
    return data[: len(data) - pad]


def identity(model: str) -> bytes:
    """What stands for a model whose file nobody here has seen."""
    return sha256(b"tussah/upstream/1\0" + model.encode()).digest()


def _question(prompt: Prompt) -> Json:
    """What of a request is known before its settings."""
    if prompt.text is not None:
        return {"prompt": prompt.text}
    asked: Json = {"messages": [_message(message) for message in prompt.messages]}
    if prompt.schema:
        schema = {"name": "answer", "strict": True, "schema": json.loads(prompt.schema)}
        asked["response_format"] = {"type": "json_schema", "json_schema": schema}
    if prompt.tools:
        asked["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": json.loads(tool.parameters),
                },
            }
            for tool in prompt.tools
        ]
        asked["parallel_tool_calls"] = prompt.parallel
    if len(prompt.forced) == 1:
        asked["tool_choice"] = {"type": "function", "function": {"name": prompt.forced[0]}}
    elif prompt.forced:
        asked["tool_choice"] = "required"
    return asked


def _message(message: ChatMessage) -> Json:
    said: Json = {"role": message.role, "content": message.content}
    if message.call:
        said["tool_call_id"] = message.call
    if message.calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.calls
        ]
    return said


def _request(job: Job, model: str) -> tuple[str, bytes]:
    """Path and body. What only some servers know is left out where it asks for nothing."""
    sampling = job.sampling
    seed = int.from_bytes(sampling.nonce[:4], "big") >> 1
    body: Json = {
        **_object(unpacked(job.tokens).decode()),
        "model": model,
        "stream": True,
        "max_tokens": job.max_tokens,
        "temperature": sampling.temperature / MILLE,
        "top_p": sampling.top_p / MILLE,
        "seed": seed,
        "stop": [stop.decode() for stop in job.stop] or None,
        "frequency_penalty": sampling.frequency / MILLE or None,
        "presence_penalty": sampling.presence / MILLE or None,
        "top_k": sampling.top_k if sampling.top_k != _USUAL_TOP_K else None,
        "min_p": sampling.min_p / MILLE or None,
        "logit_bias": {str(token): bias / MILLE for token, bias in sampling.bias} or None,
    }
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    kept = {name: value for name, value in body.items() if value is not None}
    return path, json.dumps(kept).encode()


def _ids(models: object) -> list[str]:
    every = models if isinstance(models, list) else []
    return [str(one["id"]) for one in every if isinstance(one, dict) and "id" in one]


def _object(text: str) -> Json:
    """A JSON object. Raises `RemoteError` for anything else."""
    try:
        value = strict.parse(text)
    except ValueError as error:
        raise RemoteError("the server sent no JSON that could be sent on") from error
    if not isinstance(value, dict):
        raise RemoteError("the server sent another JSON than an object")
    return value


def _trial(prepared: Prepared) -> Job:
    return Job(
        id=-1,
        tag=bytes(16),
        tokens=prepared.tokens,
        max_tokens=TRIAL_TOKENS,
        sampling=Sampling(nonce=bytes(16), temperature=0),
        deadline_s=60.0,
    )


_USUAL_TOP_K: Final = 40

_FIELDS: Final = (
    ("reasoning_content", Channel.REASONING),
    ("content", Channel.CONTENT),
    ("text", Channel.CONTENT),
)

_REASONS: Final[Mapping[str, Reason]] = {
    "stop": Reason.STOP,
    "length": Reason.LENGTH,
    "tool_calls": Reason.TOOL_CALLS,
}

_FAULTS: Final[Mapping[int, Fault]] = {
    400: Fault.BAD_REQUEST,
    404: Fault.NO_MODEL,
    413: Fault.TOO_LONG,
    422: Fault.BAD_REQUEST,
    429: Fault.BUSY,
    501: Fault.UNSUPPORTED,
    503: Fault.BUSY,
}
"""What a server's status means; the others are its own fault."""
