"""The engine in a child process: its parent's end, on trio; and, run as a program, the child.

    parent (this node) --Load Prepare Submit Cancel Pause Resume Unload--> child (the model)
                       <--Reply Events Report--

A child that dies, whatever kills it, fails the jobs it had; a new one is started after a pause
that doubles, and loads the model again. After three deaths in ten minutes none is started until
somebody calls `load`: then the model, or the machine, cannot do it.
"""

import os
import subprocess
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import trio

import inference
from inference.engine import frames
from inference.engine.base import (
    EngineState,
    EngineStatistics,
    Failed,
    Fault,
    Finished,
    Generation,
    Job,
    JobEvent,
    Loaded,
    Plan,
    Prepared,
    Prompt,
    Score,
    Scored,
)
from inference.engine.stream import EventStream
from p2p.codec import Unframer
from p2p.errors import CodecError

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

BACKOFF: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""seconds before the next child, by the number of recent deaths."""

MAX_DEATHS: Final = 3
"""deaths within `DEATHS_WINDOW` after which no child is started."""

DEATHS_WINDOW: Final = 600.0
"""seconds a death is remembered."""

SILENCE: Final = 60.0
"""seconds without a word from a child that has work, after which it is killed."""

RELOAD: Final = 0
"""the number of the `Load` that nobody waits for: calls of callers count from 1"""

READ_SIZE: Final = 65_536

SPIN_COUNT: Final = "1000"
"""GOMP_SPINCOUNT: libgomp's default spins so long that a busy machine computes nothing else; no
spinning at all is three times slower on a quiet one."""

_PASSED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_PASSED_PREFIXES: Final = ("OPENBLAS_", "NVPL_", "CUDA_", "GGML_", "HIP_", "VK_", "COV_")


@final
class HostedEngine:
    """An `Engine`: llama.cpp on one model file, in a child. Start `run` in a nursery, then `load`.

    `command` and `backoff` are for tests of the faults.
    """

    def __init__(
        self,
        path: Path,
        *,
        command: Sequence[str] | None = None,
        backoff: Sequence[float] = BACKOFF,
    ) -> None:
        self._command = command or (sys.executable, "-P", "-m", __spec__.name, str(path))
        self._backoff = backoff
        self._outbox: deque[bytes] = deque()
        self._news = trio.Event()
        self._streams: dict[int, EventStream] = {}
        self._calls: dict[int, _Call] = {}
        self._last_call = 0
        self._plan: Plan | None = None
        self._process: trio.Process | None = None
        self._state = EngineState.EMPTY
        self._report = EngineStatistics(state=EngineState.EMPTY)
        self._deaths: deque[float] = deque()
        self._died = 0
        self._faults: Counter[Fault] = Counter()
        self._revived = trio.Event()

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a child until cancelled, which kills it."""
        task_status.started()
        try:
            while True:
                await self._live()
                self._bury()
                await self._recover()
        finally:
            self._state = EngineState.DEAD
            self._fail_all()

    async def load(self, plan: Plan) -> Loaded | Failed:
        """Load the model, in a new child if the last ones died."""
        if self._state is EngineState.DEAD:
            self._revive()
        self._plan = None
        self._state = EngineState.LOADING
        self._last_call += 1
        result = await self._answer(frames.Load(call=self._last_call, plan=plan))
        if isinstance(result, Loaded):
            self._plan = plan
            self._state = EngineState.READY
            return result
        if self._state is EngineState.LOADING:
            self._state = EngineState.EMPTY
        return _as_failed(result)

    async def prepare(self, prompt: Prompt) -> Prepared | Failed:
        """Render and tokenise, in the child: templates are programs of strangers."""
        self._last_call += 1
        result = await self._answer(frames.Prepare(call=self._last_call, prompt=prompt))
        return result if isinstance(result, Prepared) else _as_failed(result)

    async def score(self, task: Score) -> Scored | Failed:
        """Compute a claimed answer again, between the steps of jobs."""
        self._last_call += 1
        result = await self._answer(frames.Rate(call=self._last_call, task=task))
        return result if isinstance(result, Scored) else _as_failed(result)

    @asynccontextmanager
    async def generate(self, job: Job) -> AsyncIterator[Generation]:
        """Queue a job; leaving cancels it."""
        stream = self._submit(job)
        try:
            yield stream
        finally:
            if self._streams.pop(job.id, None) is not None:
                self._send(frames.Cancel(id=job.id))

    async def unload(self) -> None:
        """Free the model."""
        self._plan = None
        self._last_call += 1
        await self._answer(frames.Unload(call=self._last_call))
        if self._state is EngineState.READY:
            self._state = EngineState.EMPTY

    def statistics(self) -> EngineStatistics:
        """What the child last said, at most a second old while it works; and its deaths."""
        return replace(
            self._report, state=self._state, deaths=self._died, faults=dict(self._faults)
        )

    @property
    def pid(self) -> int | None:
        """The child's process, while there is one."""
        return None if self._process is None else self._process.pid

    # --- a child's life ---

    async def _live(self) -> None:
        """Start a child and talk with it until it ends, by itself or by what it says."""
        process = await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        if self._plan is not None:
            self._outbox.appendleft(frames.encode(frames.Load(call=RELOAD, plan=self._plan)))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, process.stdin)
                await self._read(process.stdout)
                nursery.cancel_scope.cancel()
        finally:
            self._process = None
            await _kill(process)

    async def _write(self, pipe: trio.abc.SendStream) -> None:
        """The one writer; a broken pipe is the reader's to notice."""
        while True:
            while self._outbox:
                try:
                    await pipe.send_all(self._outbox.popleft())
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
            self._news = trio.Event()
            await self._news.wait()

    async def _read(self, pipe: trio.abc.ReceiveStream) -> None:
        unframer = Unframer(frames.MAX_FRAME)
        try:
            while data := await self._receive(pipe):
                unframer.feed(data)
                for body in unframer:
                    self._take(frames.decode_to_parent(body))
        except (CodecError, trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _receive(self, pipe: trio.abc.ReceiveStream) -> bytes:
        """Nothing at the end, or if a child with work says nothing for too long."""
        while True:
            with trio.move_on_after(SILENCE) as patience:
                data = bytes(await pipe.receive_some(READ_SIZE))
            if not patience.cancelled_caught:
                return data
            if self._streams or self._calls:
                return b""

    def _bury(self) -> None:
        """The child is dead: so is all it had."""
        now = trio.current_time()
        self._died += 1
        self._deaths.append(now)
        while self._deaths[0] < now - DEATHS_WINDOW:
            self._deaths.popleft()
        if len(self._deaths) >= MAX_DEATHS:
            self._state = EngineState.DEAD
        elif self._plan is not None:
            self._state = EngineState.LOADING
        self._fail_all()

    async def _recover(self) -> None:
        if self._state is EngineState.DEAD:
            self._revived = trio.Event()
            await self._revived.wait()
        else:
            await trio.sleep(self._backoff[min(len(self._deaths), len(self._backoff)) - 1])

    def _revive(self) -> None:
        self._deaths.clear()
        self._revived.set()

    def _fail_all(self) -> None:
        self._outbox.clear()
        self._report = EngineStatistics(state=EngineState.EMPTY)
        for call in self._calls.values():
            call.answer(Failed(fault=Fault.DIED))
        for job_id in list(self._streams):
            self._deliver(job_id, Failed(fault=Fault.DIED))

    # --- what is said, both ways ---

    def _send(self, message: frames.ToChild) -> None:
        self._outbox.append(frames.encode(message))
        self._news.set()

    async def _answer(self, message: frames.Call) -> frames.Result:
        """Ask and wait; a child that dies meanwhile answers `DIED`."""
        await trio.lowlevel.checkpoint()
        if self._state is EngineState.DEAD:
            return Failed(fault=Fault.DIED)
        call = self._calls[message.call] = _Call()
        try:
            self._send(message)
            return await call.wait()
        finally:
            del self._calls[message.call]

    def _submit(self, job: Job) -> EventStream:
        if job.id in self._streams:
            raise ValueError(f"job {job.id} is here already")
        stream = EventStream(
            lambda: self._send(frames.Pause(id=job.id)),
            lambda: self._send(frames.Resume(id=job.id)),
        )
        if self._state is EngineState.DEAD:
            stream.put(Failed(fault=Fault.DIED))
        else:
            self._streams[job.id] = stream
            self._send(frames.Submit(job=job))
        return stream

    def _take(self, message: frames.ToParent) -> None:
        match message:
            case frames.Reply(call=call, result=result):
                if call == RELOAD:
                    self._reloaded(result)
                elif call in self._calls:
                    self._calls[call].answer(result)
            case frames.Events():
                for job_id, event in message.events:
                    self._deliver(job_id, event)
            case frames.Report():
                self._report = message.statistics

    def _reloaded(self, result: frames.Result) -> None:
        """A new child has tried what the last one had loaded, unless `load` came in between."""
        if self._plan is None:
            return
        if isinstance(result, Loaded):
            self._state = EngineState.READY
        else:
            self._plan, self._state = None, EngineState.EMPTY

    def _deliver(self, job_id: int, event: JobEvent) -> None:
        """A job that ended or was left is no longer known here."""
        stream = self._streams.get(job_id)
        if stream is None:
            return
        if isinstance(event, Failed):
            self._faults[event.fault] += 1
        if isinstance(event, Failed | Finished):
            del self._streams[job_id]
        stream.put(event)


@final
class _Call:
    """One question to the child."""

    def __init__(self) -> None:
        self._answered = trio.Event()
        self._result: frames.Result = None

    def answer(self, result: frames.Result) -> None:
        self._result = result
        self._answered.set()

    async def wait(self) -> frames.Result:
        await self._answered.wait()
        return self._result


def _as_failed(result: frames.Result) -> Failed:
    """A child that answers another question than was asked is as good as dead."""
    return result if isinstance(result, Failed) else Failed(fault=Fault.DIED)


async def _kill(process: trio.Process) -> None:
    """At once, and reaped; shielded for the milliseconds that takes."""
    process.kill()
    with trio.CancelScope(shield=True):
        if process.stdin is not None:
            await process.stdin.aclose()
        if process.stdout is not None:
            await process.stdout.aclose()
        await process.wait()


def _environment() -> dict[str, str]:
    """Little: what libraries need to be found and tuned, and nothing a stranger's file may read."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    root = Path(inference.__path__[0]).parent
    return {
        **passed,
        "PYTHONPATH": str(root),
        "GOMP_SPINCOUNT": SPIN_COUNT,
        "GGML_NO_BACKTRACE": "1",
    }


if __name__ == "__main__":
    # Only the child may load the C library, and this module is the name it is started by.
    from inference.engine.child import main

    main(Path(sys.argv[1]))
