"""The engine's child process: one thread owns the model, another reads the pipe.

It shares no memory with keys or circuits, so a model file that breaks llama.cpp's C++ takes down
nothing else. It ends when its standard input does; there is nothing of it to save. Started only as
`python -m inference.engine.host`, which imports this module, and with it the library, last.
"""

import contextlib
import mmap
import os
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NoReturn, final

from inference import gguf
from inference.chat import Template
from inference.engine import frames, tools, tuning
from inference.engine.base import (
    MAX_SCORES,
    EngineState,
    EngineStatistics,
    Failed,
    Fault,
    Job,
    Loaded,
    Plan,
    Prepared,
    Prompt,
    Sampling,
    Tokens,
    Voice,
)
from inference.engine.batch import Batcher, Draw, Part, Step, rows_beside
from inference.engine.llama import LlamaDevice, Replay, cores, usual_threads
from inference.gguf import Capability
from inference.schema import Unusable
from p2p.codec import Unframer
from p2p.errors import BadModel

REPORT_INTERVAL: Final = 1.0
"""seconds between two reports of the counters while busy."""

TEMPLATE_TIME: Final = 1.0
"""seconds a template may take."""

BENCHMARK_PROMPT: Final = 128
"""tokens of the prompt whose speed is measured at load: enough for a full kernel."""

BENCHMARK_ANSWER: Final = 16
"""tokens of the answer whose speed is measured at load."""

BYTES_PER_TOKEN: Final = 128
"""the longest tokens of usual vocabularies: a prompt with more bytes than this for each token of
the context cannot fit, and is not tokenised to find out"""

BATCH_INVARIANT: Final = frozenset(("q4_0", "q4_1", "q8_0", "f32"))
"""types of tensors whose products do not depend on how many rows are computed at once, as measured;
those of F16 and the K-quants do"""

NOBODY: Final = -1
"""no job's id: the benchmark runs under it"""

READ_SIZE: Final = 65_536
NICENESS: Final = 5
OOM_SCORE: Final = 500
"""of 1,000: the model goes before the node, whose keys and payments are worth more"""


@final
class Inbox:
    """What the parent sent, filled by a thread of its own; cancels are seen even in mid-step."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._messages: SimpleQueue[frames.ToChild] = SimpleQueue()
        self._cancelled: dict[int, None] = {}
        self._running: tuple[int, ...] = (NOBODY,)

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def take(self, seconds: float | None) -> frames.ToChild | None:
        """The next message; None after `seconds` without one, which may be 0, or for ever."""
        try:
            message = self._messages.get(timeout=seconds) if seconds else self._at_once(seconds)
        except Empty:
            return None
        if isinstance(message, frames.Cancel):
            self._cancelled.pop(message.id, None)
        return message

    def _at_once(self, seconds: float | None) -> frames.ToChild:
        return self._messages.get() if seconds is None else self._messages.get_nowait()

    def running(self, step: Step) -> None:
        """What is computed next."""
        self._running = tuple(part.job for part in step.parts)

    def aborted(self) -> bool:
        """All jobs of the step have been cancelled since; asked from inside it."""
        return all(job in self._cancelled for job in self._running)

    def _read(self) -> None:
        unframer = Unframer(frames.MAX_FRAME)
        try:
            while data := os.read(self._source, READ_SIZE):
                unframer.feed(data)
                for body in unframer:
                    self._note(frames.decode_to_child(body))
        finally:
            os._exit(0)  # the parent is gone, or raves: no step is worth finishing

    def _note(self, message: frames.ToChild) -> None:
        if isinstance(message, frames.Cancel):
            self._cancelled[message.id] = None
        self._messages.put(message)


@final
class Child:
    """The model and its jobs, driven by what the parent sends."""

    def __init__(self, path: Path, inbox: Inbox, sink: int) -> None:
        self._path = path
        self._inbox = inbox
        self._sink = sink
        self._device: LlamaDevice | None = None
        self._template: Template | None = None
        self._batcher = Batcher(context=0, batch=1)
        self._loaded: Loaded | None = None
        self._reported = 0.0
        self._replays: deque[tuple[int, Replay]] = deque()
        """claimed answers that are scored, each with its call; the first is under way"""

    def run(self) -> NoReturn:
        """Compute steps for ever; between two steps, do what was asked."""
        while True:
            step = self._batcher.plan(time.monotonic()) if self._device is not None else None
            self._tell_events()
            if step is not None:
                self._compute(step)
            is_busy = self._score_some() or step is not None
            self._report(idle=not is_busy)
            wait = 0.0 if is_busy else self._idle_seconds()
            while (message := self._inbox.take(wait)) is not None:
                self._obey(message)
                wait = 0.0

    def _idle_seconds(self) -> float | None:
        due = self._batcher.next_deadline()
        return None if due is None else max(0.0, due - time.monotonic())

    def _compute(self, step: Step) -> None:
        device = self._device
        assert device is not None
        self._inbox.running(step)
        outcome = device.run(step)
        self._batcher.applied(time.monotonic(), step, outcome)
        self._tell_events()

    def _score_some(self) -> bool:
        """A few rows of the first claimed answer; whether there was one."""
        if not self._replays:
            return False
        call, replay = self._replays[0]
        result = replay.advance()
        if result is not None:
            self._replays.popleft()
            replay.close()
            self._tell(frames.Reply(call=call, result=result))
        return True

    # --- what was asked ---

    def _obey(self, message: frames.ToChild) -> None:
        now = time.monotonic()
        match message:
            case frames.Load():
                self._tell(frames.Reply(call=message.call, result=self._load(message.plan)))
            case frames.Prepare():
                self._report(idle=True)  # so that what was done before is counted before
                self._tell(frames.Reply(call=message.call, result=self._prepare(message.prompt)))
            case frames.Rate():
                self._score(message)
            case frames.Unload():
                self._unload()
                self._tell(frames.Reply(call=message.call, result=None))
            case frames.Submit():
                self._submit(now, message.job)
            case frames.Cancel():
                self._batcher.cancel(message.id)
            case frames.Pause():
                self._batcher.pause(now, message.id)
            case frames.Resume():
                self._batcher.resume(message.id)

    def _submit(self, now: float, job: Job) -> None:
        if self._device is None:
            self._tell(frames.Events(events=((job.id, Failed(fault=Fault.NO_MODEL)),)))
        else:
            self._batcher.submit(now, job)

    def _score(self, message: frames.Rate) -> None:
        device, failed = self._device, None
        if device is None:
            failed = Failed(fault=Fault.NO_MODEL)
        elif len(self._replays) >= MAX_SCORES:
            failed = Failed(fault=Fault.BUSY)
        else:
            replay = device.replay(message.task)
            if isinstance(replay, Replay):
                self._replays.append((message.call, replay))
                return
            failed = replay
        self._tell(frames.Reply(call=message.call, result=failed))

    def _load(self, plan: Plan) -> Loaded | Failed:
        started = time.monotonic()
        self._unload()
        try:
            about = _read(self._path)
            self._template = Template(about.template) if about.template else None
        except (BadModel, OSError):
            return Failed(fault=Fault.NO_MODEL)
        device = LlamaDevice.open(self._path, plan, self._inbox.aborted)
        if isinstance(device, Failed):
            return device
        prompt_rate, answer_rate = _measured(device, plan)
        self._device = device
        self._batcher = Batcher(
            context=device.context,
            batch=plan.batch,
            slots=plan.slots,
            beside=rows_beside(prompt_rate, plan.batch),
            grammars=True,
        )
        self._loaded = Loaded(
            numerics=device.numerics,
            context=device.context,
            slots=plan.slots,
            prompt_rate=prompt_rate,
            answer_rate=answer_rate,
            seconds=time.monotonic() - started,
            grammars=True,
            tools=self._template is not None,
            reproducible=plan.strict and {*about.histogram} <= BATCH_INVARIANT,
        )
        return self._loaded

    def _unload(self) -> None:
        self._batcher.fail_all(Fault.NO_MODEL)
        self._tell_events()
        while self._replays:
            call, replay = self._replays.popleft()
            replay.close()
            self._tell(frames.Reply(call=call, result=Failed(fault=Fault.NO_MODEL)))
        self._template = self._loaded = None
        if self._device is not None:
            self._device.close()
            self._device = None

    def _prepare(self, prompt: Prompt) -> Prepared | Failed:
        if self._device is None:
            return Failed(fault=Fault.NO_MODEL)
        template = "" if self._template is None else self._template.text
        grammar = tools.grammar_for(template, prompt)
        if isinstance(grammar, Unusable):
            return Failed(fault=Fault.BAD_GRAMMAR)
        text = self._render(prompt)
        if isinstance(text, Failed):
            return text
        too_long = Failed(fault=Fault.TOO_LONG, detail=self._device.context)
        if len(text.encode("utf-8", "replace")) > BYTES_PER_TOKEN * self._device.context:
            return too_long
        tokens = self._device.vocabulary.tokenize(text)
        if not tokens:
            return Failed(fault=Fault.BAD_REQUEST)
        if len(tokens) >= self._device.context:
            return too_long
        stop = tuple(one.encode("utf-8", "replace") for one in prompt.stop)
        voice = Voice() if prompt.text is not None else tools.voice_of(template, text, prompt)
        return Prepared(tokens=tokens, stop=stop, grammar=grammar, voice=voice)

    def _render(self, prompt: Prompt) -> str | Failed:
        if prompt.text is not None:
            return prompt.text
        text = self._fill(prompt)
        return Failed(fault=Fault.BAD_TEMPLATE) if text is None else text

    def _fill(self, prompt: Prompt) -> str | None:
        """The template's prompt; None if there is none, or it takes too long."""
        if self._template is None or self._device is None:
            return None
        special = self._device.vocabulary.names()
        messages, told = tools.conversation(self._template.text, prompt)
        try:
            with _interrupted_after(TEMPLATE_TIME):
                return self._template.render(
                    messages, special=special, date=prompt.date, tools=told
                )
        except TimeoutError:
            return None

    # --- what is told ---

    def _tell(self, message: frames.ToParent) -> None:
        data = memoryview(frames.encode(message))
        while data:
            data = data[os.write(self._sink, data) :]

    def _tell_events(self) -> None:
        events = self._batcher.drain()
        if events:
            self._tell(frames.Events(events=tuple(events)))

    def _report(self, *, idle: bool) -> None:
        now = time.monotonic()
        if not idle and now < self._reported + REPORT_INTERVAL:
            return
        self._reported = now
        self._tell(frames.Report(statistics=self._statistics()))

    def _statistics(self) -> EngineStatistics:
        batcher, sizes = self._batcher, self._batcher.sizes()
        ready = self._loaded is not None
        return EngineStatistics(
            state=EngineState.READY if ready else EngineState.EMPTY,
            numerics=self._loaded.numerics if self._loaded is not None else b"",
            slots=self._loaded.slots if self._loaded is not None else 0,
            busy=sizes["busy"],
            waiting=sizes["waiting"],
            steps=batcher.steps,
            tokens_in=batcher.tokens_in,
            tokens_out=batcher.tokens_out,
            tokens_reused=batcher.tokens_reused,
            cancels=batcher.cancels,
        )


def _read(path: Path) -> Capability:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        return gguf.describe(gguf.parse(view))


def _measured(device: LlamaDevice, plan: Plan) -> tuning.Rates:
    """How fast it is, with the threads that are best if the plan names none.

    Where bits must be equal the usual number stays: on long contexts they depend on it.
    """
    room, usual = min(plan.batch, plan.context // 2), plan.threads or usual_threads()
    tried = (usual,) if plan.threads or plan.strict else tuning.candidates(cores(), usual)
    measured: dict[int, tuning.Rates] = {}
    until = time.monotonic() + tuning.BUDGET
    for count in tried:
        if not measured or time.monotonic() < until:
            device.use_threads(tuning.Threads(prompt=count, answer=count))
            measured[count] = _benchmark(device, room)
    threads, rates = tuning.choose(measured)
    device.use_threads(threads)
    return rates


def _benchmark(device: LlamaDevice, room: int) -> tuning.Rates:
    """Tokens/s of a prompt and of an answer; leaves the cache to be emptied by the next step."""
    prompt: Tokens = (1,) * min(BENCHMARK_PROMPT, room)
    greedy = Draw(sampling=Sampling(nonce=bytes(16), temperature=0), answer=(), logprobs=0)
    started = time.perf_counter()
    device.run(_alone(0, prompt, greedy))
    between = time.perf_counter()
    for index in range(BENCHMARK_ANSWER):
        device.run(_alone(len(prompt) + index, (1,), greedy))
    ended = time.perf_counter()
    return tuning.Rates(
        prompt=len(prompt) / (between - started), answer=BENCHMARK_ANSWER / (ended - between)
    )


def _alone(keep: int, tokens: Tokens, draw: Draw) -> Step:
    part = Part(job=NOBODY, slot=0, keep=keep, tokens=tokens, draw=draw)
    return Step(parts=(part,))


@contextlib.contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """`TimeoutError` inside, once the time is over: a template can loop without output."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise TimeoutError


def main(path: Path) -> NoReturn:
    """Serve the pipe on standard input and output until it is closed."""
    sink = os.dup(1)
    os.dup2(2, 1)  # a stray print in C must not break the frames
    _settle_down()
    inbox = Inbox(0)
    inbox.start()
    try:
        Child(path, inbox, sink).run()
    except BrokenPipeError:
        sys.exit(0)


def _settle_down() -> None:
    """Be the first to give way, and leave no core dump with prompts in it.

    No parent-death signal: Linux sends it when the *thread* that forked ends, and trio forks in a
    worker thread that it retires after 10 s. The end of input says that the parent is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's matter
    signal.signal(signal.SIGALRM, _interrupt)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
