"""Audits: what sums of margins say, whom it costs what, and what a replay finds in an answer."""

import pytest
import trio

from inference import audit
from inference.audit import (
    BAN_TOKENS,
    CLOSER_LOOKS,
    GREEDY,
    MAX_BOOKED,
    SAMPLED,
    SUSPENSION,
    WINDOW,
    AuditBook,
    Claim,
    Sums,
    Verdict,
    judge,
)
from inference.engine.base import Finished, Job, Piece, Plan, Sampling, Score, Scored
from inference.engine.fake import FakeEngine
from p2p.entropy import seeded

NOW = 1_800_000_000.0
MODEL = b"m" * 32


def claim(margins, *, number=1, temperature=800, prompt=9, same=False):
    return Claim(
        worker=number.to_bytes(32, "big"),
        model=MODEL,
        sampling=Sampling(nonce=bytes(16), temperature=temperature),
        prompt=prompt,
        replayed=9,
        scored=Scored(margins=tuple(margins)),
        same_numerics=same,
    )


@pytest.mark.parametrize(
    ("tokens", "mean", "verdict"),
    [
        (63, 0.5, Verdict.OPEN),
        (64, 0.031, Verdict.SUSPECT),
        (64, 0.029, Verdict.OPEN),
        (255, 0.031, Verdict.SUSPECT),
        (256, 0.021, Verdict.FAILED),
        (256, 0.019, Verdict.OPEN),
        (1_024, 0.016, Verdict.FAILED),
        (1_024, 0.014, Verdict.PASSED),
        (9_000, 0.014, Verdict.PASSED),
    ],
)
def test_the_limit_that_counts_is_the_one_for_the_most_tokens(tokens, mean, verdict):
    assert judge(Sums(tokens=tokens, margin=tokens * mean), SAMPLED) is verdict


def test_greedy_answers_have_closer_limits():
    sums = Sums(tokens=300, margin=300 * 0.015)
    assert (judge(sums, SAMPLED), judge(sums, GREEDY)) == (Verdict.OPEN, Verdict.FAILED)
    book = AuditBook()
    assert book.note(NOW, claim([0.015] * 300, temperature=0)) is Verdict.FAILED


def test_one_unlucky_answer_suspends_for_a_day_and_is_looked_at_more_closely():
    book, bad, good = AuditBook(), claim([0.04] * 64), claim([0.0] * 64)
    assert book.note(NOW, bad) is Verdict.SUSPECT
    assert not book.may_ask(NOW + SUSPENSION - 1, bad.worker)
    assert book.may_ask(NOW + SUSPENSION, bad.worker)
    for _ in range(CLOSER_LOOKS):
        assert book.wants_audit(bad.worker, MODEL)
        assert book.note(NOW + SUSPENSION, good) is Verdict.OPEN
    assert not book.wants_audit(bad.worker, MODEL)


def test_what_is_banned_stays_so_for_thirty_days_whatever_follows():
    book, bad = AuditBook(), claim([0.1] * BAN_TOKENS)
    assert book.note(NOW, bad) is Verdict.FAILED
    assert book.note(NOW + 1, claim([0.0] * 100_000)) is Verdict.FAILED
    assert not book.may_ask(NOW + WINDOW - 1, bad.worker)
    assert book.may_ask(NOW + WINDOW, bad.worker)
    assert book.may_ask(NOW, claim([], number=2).worker)


def test_a_prompt_counted_wrongly_fails_at_once():
    assert AuditBook().note(NOW, claim([0.0], prompt=10)) is Verdict.FAILED


def test_equal_tokens_of_one_class_pass_at_once_and_unequal_ones_are_no_guilt():
    assert AuditBook().note(NOW, claim([0.0] * 8, same=True)) is Verdict.PASSED
    assert AuditBook().note(NOW, claim([0.0] * 8)) is Verdict.OPEN
    assert AuditBook().note(NOW, claim([0.2] * 8, same=True)) is Verdict.OPEN


def test_the_book_is_bounded_and_forgets_whom_it_heard_of_longest_ago():
    book = AuditBook()
    for number in range(MAX_BOOKED + 1):
        book.note(NOW, claim([0.4] * 64, number=number))
    assert book.sizes() == {"pages": MAX_BOOKED}
    assert book.sums(claim([], number=0).worker, MODEL) == {}


def test_canaries_are_ordinary_questions_and_seldom_the_same():
    entropy = seeded(7)
    asked = [audit.canary(entropy)[0] for _ in range(50)]
    assert {message.role for message in asked} == {"user"}
    assert all(20 < len(message.content) < 120 for message in asked)
    assert len({message.content for message in asked}) > 35


# --- a replay, on the seeded twin: the same arithmetic of margins as on a model ---


async def replayed(worker, judge_engine, *, nonce=b"n" * 16, cut=0):
    """An answer of `worker`, held against `judge_engine`'s model."""
    prompt = tuple(b"user: what is silk?\nassistant:")
    drawn = Sampling(nonce=nonce)
    job = Job(id=1, tag=bytes(16), tokens=prompt, max_tokens=40, sampling=drawn)
    ids = []
    async with worker.generate(job) as events:
        async for event in events:
            ids += event.ids if isinstance(event, Piece) else ()
            assert not isinstance(event, Finished) or event.usage.completion == len(ids)
    claimed = Sampling(nonce=b"n" * 16)
    answer = tuple(ids[: len(ids) - cut])
    if cut:
        answer = (*answer, 256)  # says that it has ended where it has not
    scored = await judge_engine.score(Score(tokens=prompt, answer=answer, sampling=claimed))
    return scored.margins


@pytest.fixture
async def engines():
    honest, other, worse = FakeEngine(7), FakeEngine(7), FakeEngine(7, quality=0.5)
    async with trio.open_nursery() as nursery:
        for engine in (honest, other, worse):
            await nursery.start(engine.run)
            await engine.load(Plan(context=512))
        yield honest, other, worse
        nursery.cancel_scope.cancel()


async def test_an_honest_answer_has_no_margin_at_all(engines, autojump_clock):
    honest, other, _ = engines
    margins = await replayed(honest, other)
    assert len(margins) > 20
    assert set(margins) == {0.0}


async def test_worse_weights_another_seed_and_an_early_end_are_seen(engines, autojump_clock):
    honest, other, worse = engines
    assert sum(await replayed(worse, other)) > 1.0
    assert sum(await replayed(honest, other, nonce=b"m" * 16)) > 1.0
    *before, last = await replayed(honest, other, cut=10)
    assert not any(before)
    assert last == 0.5
