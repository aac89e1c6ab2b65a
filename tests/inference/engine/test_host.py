"""The engine's child: what its death, its silence and its lies do to the node, which is little."""

import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import psutil
import pytest
import trio

from inference.catalogue import builtin_path
from inference.engine import frames, host
from inference.engine.base import (
    EngineState,
    Failed,
    Fault,
    Finished,
    Job,
    Loaded,
    Piece,
    Plan,
    Prompt,
    Sampling,
)
from inference.engine.host import MAX_DEATHS, SILENCE, HostedEngine
from p2p.codec import Unframer

PLAN = Plan(context=1_024, threads=1)  # two would wait for each other on busy cores
GREEDY = Sampling(nonce=bytes(16), temperature=0)
DIED = Failed(fault=Fault.DIED)


@asynccontextmanager
async def running(engine):
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield engine
        nursery.cancel_scope.cancel()


def program(code):
    return [sys.executable, "-c", code]


def job(number, tokens=(1, 2, 3), most=4):
    return Job(
        id=number,
        tag=number.to_bytes(16, "big"),
        tokens=tokens,
        max_tokens=most,
        sampling=GREEDY,
        deadline_s=60.0,
    )


async def answer(engine, one):
    async with engine.generate(one) as generation:
        return [event async for event in generation]


async def test_a_child_killed_in_mid_answer_fails_its_jobs_and_the_next_answer_works():
    async with running(HostedEngine(builtin_path(), backoff=(0.01,))) as engine:
        assert isinstance(await engine.load(PLAN), Loaded)
        tokens = (await engine.prepare(Prompt(text="one two three one two three"))).tokens
        before = await answer(engine, job(1, tokens))

        async with engine.generate(job(2, tokens, 900)) as generation:
            async for event in generation:
                if isinstance(event, Piece):
                    os.kill(engine.pid, signal.SIGKILL)
                    break
            *_, last = [event async for event in generation]
        assert last == DIED
        assert engine.statistics().state is EngineState.LOADING

        assert await answer(engine, job(3, tokens)) == before
        statistics = engine.statistics()
        assert (statistics.deaths, statistics.state) == (1, EngineState.READY)
        child = engine.pid
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert await answer(engine, job(4)) == [DIED]


async def test_a_file_that_is_no_model_is_said_and_leaves_the_child_alive(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    async with running(HostedEngine(path)) as engine:
        assert await engine.load(PLAN) == Failed(fault=Fault.NO_MODEL)
        assert engine.statistics().state is EngineState.EMPTY
        child = engine.pid
        path.unlink()
        assert await engine.load(PLAN) == Failed(fault=Fault.NO_MODEL)
        assert await answer(engine, job(1)) == [Failed(fault=Fault.NO_MODEL)]
        assert (engine.pid, engine.statistics().deaths) == (child, 0)


async def test_a_child_that_keeps_dying_is_given_up_until_somebody_loads(tmp_path):
    tries = tmp_path / "tries"
    code = f"open({str(tries)!r}, 'a').write('x')"
    engine = HostedEngine(tmp_path, command=program(code), backoff=(0.0,))
    async with running(engine):
        for attempt in (1, 2):
            while engine.statistics().state is not EngineState.DEAD:
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(tries.read_text()) == attempt * MAX_DEATHS
            assert engine.statistics().deaths == attempt * MAX_DEATHS
            assert await engine.prepare(Prompt(text="x")) == DIED
            assert await answer(engine, job(attempt)) == [DIED]
            assert await engine.load(PLAN) == DIED


@pytest.mark.parametrize(
    "said",
    [b"\xff\xff\xff\xff", b"\x01\0\0\0\xc0", b"Segmentation fault\n"],
    ids=["endless", "no message", "print"],
)
async def test_a_child_that_breaks_the_frames_is_killed(said, tmp_path):
    code = f"import os, time; os.write(1, {said!r}); time.sleep(1000)"
    async with running(HostedEngine(tmp_path, command=program(code))) as engine:
        assert await engine.load(PLAN) == DIED
        assert engine.statistics().deaths == 1


async def test_a_child_that_has_work_and_says_nothing_is_killed(mock_clock, tmp_path):
    engine = HostedEngine(tmp_path, command=program("import time; time.sleep(1000)"))
    results = []

    async def load():
        results.append(await engine.load(PLAN))

    async with running(engine), trio.open_nursery() as nursery:
        while engine.pid is None:
            await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(SILENCE + 1)  # without work it may be silent
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert engine.pid is not None
        nursery.start_soon(load)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(SILENCE + 1)
    assert results == [DIED]


def test_the_child_ends_when_its_input_does():
    ended = subprocess.run(
        [sys.executable, "-m", host.__name__, builtin_path()],
        input=b"",
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode == 0
    said = Unframer(frames.MAX_FRAME)
    said.feed(ended.stdout)  # a report of nothing, if its first one came before the end
    assert all(isinstance(frames.decode_to_parent(body), frames.Report) for body in said)


async def test_the_child_learns_nothing_of_the_environment_it_does_not_need(monkeypatch, tmp_path):
    monkeypatch.setenv("TUSSAH_SECRET", "planted")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    told = tmp_path / "told"
    code = f"import json, os; json.dump(dict(os.environ), open({str(told)!r}, 'w'))"
    async with running(HostedEngine(tmp_path, command=program(code))) as engine:
        assert await engine.load(PLAN) == DIED
    environment = json.loads(told.read_text())
    assert "TUSSAH_SECRET" not in environment
    assert "OMP_WAIT_POLICY" not in environment
    assert environment["GOMP_SPINCOUNT"] == "1000"


ENDLESS = """
from inference.chat import Template
from inference.engine import child
child._settle_down()
nested = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
try:
    with child._interrupted_after(0.2):
        print(Template(nested).render([], special={}))
except TimeoutError:
    print(None)
print(Template("still {{ 1 + 1 }}").render([], special={}))
"""


def test_a_template_that_never_ends_is_interrupted():
    """In a process of its own: the child's module loads llama.cpp."""
    said = subprocess.run(program(ENDLESS), capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "None\nstill 2\n"


JUDGE = """
import json, sys
from llama_cpp import Llama
asked = json.load(sys.stdin)
model = Llama(asked["path"], n_ctx=1024, n_batch=512, n_ubatch=512, flash_attn=True,
              n_threads=asked["threads"], n_threads_batch=asked["threads"], verbose=False)
answers = []
for prompt in asked["prompts"]:
    tokens = model.tokenize(prompt.encode(), add_bos=True, special=True)
    model.reset()
    answer = []
    for token in model.generate(tokens, temp=0.0, repeat_penalty=1.0):
        answer.append(token)
        if len(answer) == asked["most"] or token == model.token_eos():
            break
    answers.append([tokens, answer])
print(json.dumps(answers))
"""

PROMPTS = [
    "The capital of France is",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
    "def fibonacci(n):\n",
    "\u00c9t\u00e9 \U0001f600 \u7d72\u7dda",
]


async def test_greedy_answers_are_those_of_the_high_level_library():
    most, threads = 16, 1
    async with running(HostedEngine(builtin_path())) as engine:
        assert isinstance(await engine.load(Plan(context=1_024, threads=threads)), Loaded)
        ours = []
        for number, prompt in enumerate(PROMPTS, 1):
            tokens = (await engine.prepare(Prompt(text=prompt))).tokens
            events = await answer(engine, job(number, tokens, most))
            assert isinstance(events[-1], Finished)
            pieces = [event for event in events if isinstance(event, Piece)]
            ours.append([list(tokens), [token for piece in pieces for token in piece.ids]])
    asked = {
        "path": str(builtin_path()),
        "prompts": PROMPTS,
        "most": most,
        "threads": threads,
    }
    judged = await trio.run_process(
        program(JUDGE),
        stdin=json.dumps(asked).encode(),
        capture_stdout=True,
        capture_stderr=True,
        env={**os.environ, "GOMP_SPINCOUNT": "1000"},
    )
    assert json.loads(judged.stdout) == ours


@pytest.mark.slow
async def test_a_thousand_jobs_that_are_left_leave_no_memory_behind():
    plan = Plan(context=1_024, threads=1, slots=4)
    async with running(HostedEngine(builtin_path())) as engine:
        assert isinstance(await engine.load(plan), Loaded)
        child, sizes = psutil.Process(engine.pid), []
        tokens = (await engine.prepare(Prompt(text="one two three " * 12))).tokens
        for number in range(1_000):
            async with engine.generate(job(number, tokens, 50)) as generation:
                await anext(generation)
            if number % 100 == 99:
                await answer(engine, job(100_000 + number, tokens, 1))
                sizes.append(child.memory_info().rss)
        assert engine.statistics().deaths == 0
    assert max(sizes[2:]) - sizes[1] < 4 * 2**20
