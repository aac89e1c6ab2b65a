"""llama-cpp-python's own class as the judge: the same file and prompts, the same tokens."""

import json
import os
import subprocess
import sys

import pytest
import trio

from inference.catalogue import builtin_path
from inference.engine.base import Job, Piece, Plan, Prompt, Sampling
from inference.engine.host import HostedEngine

PROMPTS = [
    "The moth opened its wings and",
    "Three reasons to learn sailing:",
    "def parse(text):",
    "Q: Who spins silk?\nA:",
    "Once upon a time, in a village by the sea, " * 8,
    "1, 1, 2, 3, 5, 8,",
]
LENGTH = 24

JUDGE = """
import json, sys
import llama_cpp
path, prompts, length = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
model = llama_cpp.Llama(path, n_ctx=512, n_batch=512, n_ubatch=48, n_threads=1, flash_attn=True,
                        verbose=False)
answers = []
for prompt in prompts:
    tokens = model.tokenize(prompt.encode(), add_bos=True, special=True)
    ids = []
    for token in model.generate(tokens, temp=0.0, reset=True):
        ids.append(token)
        if len(ids) == length or token == model.token_eos():
            break
    answers.append(ids)
    model.reset()
print(json.dumps(answers))
"""

pytestmark = pytest.mark.skipif(builtin_path() is None, reason="the built-in model is not there")


@pytest.mark.slow
async def test_greedy_answers_are_those_of_llama_cpps_own_class_side_by_side():
    engine, ours = HostedEngine(builtin_path()), {}

    async def answer(number, prompt):
        prepared = await engine.prepare(Prompt(text=prompt))
        job = Job(
            id=number,
            tag=number.to_bytes(16, "big"),
            tokens=prepared.tokens,
            max_tokens=LENGTH,
            sampling=Sampling(nonce=bytes(16), temperature=0),
        )
        async with engine.generate(job) as events:
            pieces = [event async for event in events if isinstance(event, Piece)]
        ours[number] = [token for piece in pieces for token in piece.ids]

    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        await engine.load(Plan(context=512, slots=4, threads=1))
        async with trio.open_nursery() as answers:
            for number, prompt in enumerate(PROMPTS):
                answers.start_soon(answer, number, prompt)
        nursery.cancel_scope.cancel()
    command = [sys.executable, "-c", JUDGE, str(builtin_path()), json.dumps(PROMPTS), str(LENGTH)]
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}
    judged = await trio.run_process(
        command, capture_stdout=True, stderr=subprocess.DEVNULL, env=environment
    )
    assert [ours[number] for number in range(len(PROMPTS))] == json.loads(judged.stdout)
