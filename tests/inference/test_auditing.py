"""A node's own answers held against its own engine: which, when, and what comes of it."""

from dataclasses import replace

import pytest
import trio

from inference import body
from inference.audit import LEAST_TOKENS, Verdict
from inference.auditing import KEPT_FOR, MAX_KEPT, Auditor, claimed
from inference.body import Question
from inference.engine.base import ChatMessage, Finished, Job, Piece, Plan, Sampling, Usage
from inference.engine.base import Prompt as EnginePrompt
from inference.engine.fake import END, FakeEngine
from inference.protocol import Prompt, Setting
from inference.request import Done, Timing
from ledger.money import ZERO
from ledger.tariff import Prices
from p2p.entropy import seeded
from p2p.identity import AdnlId

MODEL, NUMERICS = b"m" * 32, b"numerics"
SAID = EnginePrompt(messages=(ChatMessage(role="user", content="What is silk?"),))
NONCE = b"n" * 16
UNENDING = ((END, -100_000),)


@pytest.fixture
async def engines():
    honest, own, worse = FakeEngine(7), FakeEngine(7), FakeEngine(7, quality=0.5)
    async with trio.open_nursery() as nursery:
        for engine in (honest, own, worse):
            await nursery.start(engine.run)
            await engine.load(Plan(context=1_024))
        yield honest, own, worse
        nursery.cancel_scope.cancel()


DONE = Done(
    worker=AdnlId(b"w" * 32),
    identity=MODEL,
    model="moth@q4",
    path=(),
    text="",
    reasoning="",
    ids=(),
    nonce=NONCE,
    date=0,
    finish="length",
    usage=Usage(),
    cost=ZERO,
    prices=Prices(),
    quoted=ZERO,
    receipt=b"",
    numerics=NUMERICS,
    timing=Timing(),
    refusals=(),
    slots=1,
)


@pytest.fixture
def done_by():
    """What an ask that this engine answered came to."""

    async def by(engine, *, drawn=NONCE, tokens=80):
        prepared = await engine.prepare(SAID)
        sampling = Sampling(nonce=drawn, temperature=900, bias=UNENDING)
        job = Job(
            id=int.from_bytes(drawn, "big"),
            tag=drawn,
            tokens=prepared.tokens,
            max_tokens=tokens,
            sampling=sampling,
        )
        ids = []
        async with engine.generate(job) as events:
            async for event in events:
                ids += event.ids if isinstance(event, Piece) else ()
                assert not isinstance(event, Finished) or event.usage.completion == len(ids)
        sent = Prompt(
            nonce=NONCE,
            date=None,
            deadline_ms=1,
            settings={int(Setting.TEMPERATURE): 900},
            body=body.write(Question(prompt=SAID, bias=UNENDING)),
        )
        usage = Usage(prompt=len(prepared.tokens), completion=len(ids))
        return replace(DONE, ids=tuple(ids), usage=usage, prompt=sent)

    return by


def auditor(engine, told, *, share=1.0, exact=False):
    return Auditor(
        engine,
        identity=MODEL,
        numerics=NUMERICS,
        exact=exact,
        share=share,
        entropy=seeded(7),
        told=told,
    )


async def verdicts(subject, told, nursery, *answers):
    nursery.start_soon(subject.run)
    for done in answers:
        assert subject.offer(done)
        await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(600)
    return [result.verdict for result in told]


async def test_an_honest_answer_has_no_margin_and_of_one_class_passes_at_once(
    engines, done_by, nursery, autojump_clock
):
    honest, own, _ = engines
    done, told = await done_by(honest), []
    claim = await claimed(own, done)
    assert set(claim.scored.margins) == {0.0}
    assert claim.prompt == claim.replayed
    assert await verdicts(auditor(own, told.append), told, nursery, done) == [Verdict.OPEN]
    told = []
    exact = auditor(own, told.append, exact=True)
    assert await verdicts(exact, told, nursery, done) == [Verdict.PASSED]


async def test_a_worse_model_is_suspected_looked_at_closely_and_banned(
    engines, done_by, nursery, autojump_clock
):
    _, own, worse = engines
    told, answers = [], [await done_by(worse, drawn=NONCE) for _ in range(4)]
    subject = auditor(own, told.append, share=1.0)
    got = await verdicts(subject, told, nursery, *answers)
    assert got == [Verdict.SUSPECT, Verdict.SUSPECT, Verdict.SUSPECT, Verdict.FAILED]
    assert all(result.mean > 0.03 for result in told)


async def test_another_seed_and_a_prompt_counted_wrongly_are_found(
    engines, done_by, nursery, autojump_clock
):
    honest, own, _ = engines
    other = await done_by(honest, drawn=b"o" * 16)
    assert sum((await claimed(own, other)).scored.margins) / len(other.ids) > 0.1
    padded = await done_by(honest)
    padded = replace(padded, usage=replace(padded.usage, prompt=padded.usage.prompt + 1))
    told = []
    assert await verdicts(auditor(own, told.append), told, nursery, padded) == [Verdict.FAILED]


async def test_only_long_answers_of_our_own_model_are_kept_and_few_of_them(
    engines, done_by, autojump_clock
):
    honest, own, _ = engines
    done = await done_by(honest)
    subject = auditor(own, print)
    assert not subject.offer(replace(done, identity=bytes(32)))
    assert not subject.offer(replace(done, ids=done.ids[: LEAST_TOKENS - 1]))
    for _ in range(MAX_KEPT + 5):
        assert subject.offer(done)
    assert subject.sizes()["kept"] == MAX_KEPT
    seldom = auditor(own, print, share=0.02)
    assert sum(seldom.offer(done) for _ in range(1_000)) in range(8, 40)


async def test_an_answer_too_old_is_forgotten_and_a_busy_engine_is_left_alone(
    engines, done_by, nursery, autojump_clock
):
    honest, own, _ = engines
    done, told = await done_by(honest), []
    subject = auditor(own, told.append)
    prepared = await own.prepare(SAID)
    long = Job(
        id=9,
        tag=bytes(16),
        tokens=prepared.tokens,
        max_tokens=900,
        sampling=Sampling(nonce=NONCE, bias=UNENDING),
        deadline_s=10_000.0,
    )
    async with own.generate(long) as events:
        await anext(events)
        events.pause()
        assert await verdicts(subject, told, nursery, done) == []
        await trio.sleep(KEPT_FOR)
    await trio.sleep(60)
    assert told == []
