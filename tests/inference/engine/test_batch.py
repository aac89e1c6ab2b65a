"""The order of steps: each job ends once, caches stay with their tag, and first come is first."""

from hypothesis import given
from hypothesis import strategies as st

from inference.engine.base import (
    Begun,
    Failed,
    Fault,
    Finished,
    Job,
    Piece,
    Prefilled,
    Reason,
    Sampling,
    Usage,
)
from inference.engine.batch import MAX_WAITING, PAUSE_HOLD, Batcher, Drawn, Outcome, merged

CONTEXT, BATCH = 2_000, 600
SAMPLING = Sampling(nonce=bytes(16))


def job(number, *, tokens=(1, 2, 3), tag=b"a", most=5, stop=(), seconds=100.0, grammar=None):
    return Job(
        id=number,
        tag=tag,
        tokens=tokens,
        max_tokens=most,
        sampling=SAMPLING,
        stop=stop,
        deadline_s=seconds,
        grammar=grammar,
    )


class Table:
    """A device that draws 10, 11, 12 ... and checks what it is asked to keep."""

    def __init__(self):
        self.caches = {}

    def run(self, step):
        assert 0 < step.rows <= BATCH
        slots = [part.slot for part in step.parts]
        assert slots == sorted(set(slots))
        return Outcome(drawn=tuple(self.compute(part) for part in step.parts))

    def compute(self, part):
        cache = self.caches.setdefault(part.slot, [])
        assert 0 <= part.keep <= len(cache)
        assert part.tokens
        cache[part.keep :] = part.tokens
        if part.draw is None:
            return None
        index = len(part.draw.answer)
        return Drawn(token=10 + index, text=b"%d " % index, ends=False)


def batcher(slots=1, beside=None):
    return Batcher(context=CONTEXT, batch=BATCH, slots=slots, beside=beside)


def run(subject, device, now=0.0, steps=10_000):
    """Step until nothing is to be done; the events."""
    for _ in range(steps):
        step = subject.plan(now)
        if step is None:
            break
        subject.applied(now, step, device.run(step))
    return subject.drain()


def of(events, number):
    return [event for owner, event in events if owner == number]


def test_a_job_goes_from_begun_to_finished():
    subject = batcher()
    subject.submit(0.0, job(1, most=2))
    assert of(run(subject, Table()), 1) == [
        Begun(prompt=3, cached=0),
        Piece(first=0, ids=(10,), text="0 "),
        Piece(first=1, ids=(11,), text="1 "),
        Finished(reason=Reason.LENGTH, usage=Usage(prompt=3, cached=0, completion=2)),
    ]
    assert subject.sizes() == {"busy": 0, "waiting": 0, "cache": 4, "events": 0}


def test_the_end_token_is_counted_and_shows_nothing():
    subject = batcher()
    subject.submit(0.0, job(1))
    step = subject.plan(0.0)
    subject.applied(0.0, step, Outcome(drawn=(Drawn(token=9, text=b"<end>", ends=True),)))
    assert of(subject.drain(), 1)[1:] == [
        Piece(first=0, ids=(9,), text=""),
        Finished(reason=Reason.STOP, usage=Usage(prompt=3, completion=1)),
    ]


def test_a_stop_string_ends_the_answer_before_itself():
    subject = batcher()
    subject.submit(0.0, job(1, stop=(b" 2",)))
    events = of(run(subject, Table()), 1)
    assert events[-1] == Finished(reason=Reason.STOP, usage=Usage(prompt=3, completion=3))
    pieces = [event for event in events if isinstance(event, Piece)]
    assert merged(pieces) == Piece(first=0, ids=(10, 11, 12), text="0 1")


def test_a_long_prompt_is_computed_in_batches_and_tells_its_progress():
    subject = batcher()
    subject.submit(0.0, job(1, tokens=tuple(range(1_500)), most=1))
    events = of(run(subject, Table()), 1)
    assert events[:3] == [
        Begun(prompt=1_500, cached=0),
        Prefilled(done=600),
        Prefilled(done=1_200),
    ]


def test_a_prefix_is_reused_inside_a_tag_but_for_its_last_token():
    subject, device = batcher(), Table()
    subject.submit(0.0, job(1, most=2))
    run(subject, device)
    subject.submit(0.0, job(2, tokens=(1, 2, 3, 10)))
    assert of(run(subject, device), 2)[0] == Begun(prompt=1, cached=3)
    subject.submit(0.0, job(3))
    assert of(run(subject, device), 3)[0] == Begun(prompt=1, cached=2)


def test_nothing_is_reused_across_tags():
    subject, device = batcher(), Table()
    subject.submit(0.0, job(1))
    run(subject, device)
    subject.submit(0.0, job(2, tag=b"b"))
    assert of(run(subject, device), 2)[0] == Begun(prompt=3, cached=0)


def test_jobs_run_in_the_order_they_came():
    subject = batcher()
    for number in (3, 1, 2):
        subject.submit(0.0, job(number, most=1))
    begun = [owner for owner, event in run(subject, Table()) if isinstance(event, Begun)]
    assert begun == [3, 1, 2]


def test_what_cannot_fit_fails_at_once():
    subject = batcher()
    subject.submit(0.0, job(1, most=CONTEXT - 2))
    assert subject.drain() == [(1, Failed(fault=Fault.TOO_LONG, detail=CONTEXT))]


def test_grammars_are_not_supported_yet():
    subject = batcher()
    subject.submit(0.0, job(1, grammar="root ::= x"))
    assert subject.drain() == [(1, Failed(fault=Fault.UNSUPPORTED))]


def test_the_queue_is_bounded():
    subject = batcher()
    for number in range(MAX_WAITING + 1):
        subject.submit(0.0, job(number))
    assert subject.drain() == [(MAX_WAITING, Failed(fault=Fault.BUSY))]


def test_a_deadline_ends_a_running_job_and_fails_a_waiting_one():
    subject, device = batcher(), Table()
    subject.submit(0.0, job(1, seconds=5.0))
    subject.submit(0.0, job(2, seconds=4.0))
    run(subject, device, steps=2)
    assert subject.next_deadline() == 4.0
    assert subject.plan(4.0) is not None
    assert subject.drain() == [(2, Failed(fault=Fault.DEADLINE))]
    assert subject.plan(5.0) is None
    done = Usage(prompt=3, completion=2)
    assert subject.drain() == [(1, Finished(reason=Reason.DEADLINE, usage=done))]


def test_a_cancelled_job_says_nothing_more_and_leaves_its_slot():
    subject, device = batcher(), Table()
    subject.submit(0.0, job(1))
    subject.submit(0.0, job(2, most=1))
    step = subject.plan(0.0)
    subject.cancel(1)
    subject.applied(0.0, step, device.run(step))
    assert not of(run(subject, device), 1)[1:]
    assert subject.sizes()["busy"] == 0
    assert subject.cancels == 1
    subject.cancel(1)
    assert subject.cancels == 1


def test_a_fault_fails_the_job_and_forgets_the_cache():
    subject, device = batcher(), Table()
    subject.submit(0.0, job(1))
    subject.submit(0.0, job(2))
    subject.applied(0.0, subject.plan(0.0), Outcome(fault=Fault.DECODE))
    events = run(subject, device)
    assert of(events, 1)[-1] == Failed(fault=Fault.DECODE)
    assert of(events, 2)[0] == Begun(prompt=3, cached=0)
    assert isinstance(of(events, 2)[-1], Finished)


def test_an_emptied_cache_is_computed_anew():
    subject, device = batcher(), Table()
    subject.submit(0.0, job(1, most=3))
    run(subject, device, steps=2)
    step = subject.plan(0.0)
    subject.applied(0.0, step, Outcome(emptied=(0,)))
    (part,) = subject.plan(0.0).parts
    assert (part.keep, part.tokens) == (0, (1, 2, 3, 10, 11))


def test_a_paused_job_keeps_its_slot_while_nobody_waits():
    subject, device = batcher(), Table()
    subject.submit(0.0, job(1))
    run(subject, device, steps=2)
    subject.pause(0.0, 1)
    assert subject.plan(50.0) is None
    assert subject.next_deadline() == 100.0
    subject.resume(1)
    assert subject.plan(50.0).parts[0].keep == 4


def test_a_paused_job_gives_way_and_goes_on_undisturbed():
    subject, device = batcher(), Table()
    subject.submit(0.0, job(1))
    first = run(subject, device, steps=2)
    subject.pause(1.0, 1)
    subject.submit(1.0, job(2, tag=b"b"))
    assert subject.plan(1.0) is None
    assert subject.next_deadline() == 1.0 + PAUSE_HOLD
    assert of(run(subject, device, 1.0 + PAUSE_HOLD), 2)[0] == Begun(prompt=3, cached=0)
    subject.resume(1)
    rest = of(first + run(subject, device, 7.0), 1)
    ids = [token for event in rest if isinstance(event, Piece) for token in event.ids]
    assert ids == [10, 11, 12, 13, 14]
    assert rest[-1] == Finished(reason=Reason.LENGTH, usage=Usage(prompt=3, completion=5))
    assert len([event for event in rest if isinstance(event, Begun)]) == 1


# --- several slots ---


def test_jobs_with_slots_of_their_own_are_computed_in_one_step():
    subject, device = batcher(slots=2), Table()
    for number in (1, 2, 3):
        subject.submit(0.0, job(number, tag=b"%d" % number, most=2))
    step = subject.plan(0.0)
    assert [(part.job, part.slot) for part in step.parts] == [(1, 0), (2, 1)]
    subject.applied(0.0, step, device.run(step))
    events = run(subject, device)
    assert [owner for owner, event in events if isinstance(event, Begun)] == [1, 2, 3]
    assert all(isinstance(of(events, number)[-1], Finished) for number in (1, 2, 3))


def test_a_long_prompt_takes_few_rows_beside_an_answer_and_all_without():
    subject, device = batcher(slots=2, beside=50), Table()
    subject.submit(0.0, job(1, most=3))
    run(subject, device, steps=1)
    subject.submit(0.0, job(2, tokens=tuple(range(1_000)), most=1))
    sizes = []
    while step := subject.plan(0.0):
        sizes.append([len(part.tokens) for part in step.parts])
        subject.applied(0.0, step, device.run(step))
    assert sizes == [[1, 50], [1, 50], [600], [300]]


def test_prompts_are_read_in_the_order_they_came():
    subject = batcher(slots=3)
    for number in (1, 2, 3):
        subject.submit(0.0, job(number, tokens=tuple(range(400)), tag=b"%d" % number))
    assert [(p.job, len(p.tokens)) for p in subject.plan(0.0).parts] == [(1, 400), (2, 200)]


def test_a_conversation_comes_back_to_the_slot_that_knows_it_and_others_take_empty_ones():
    subject, device = batcher(slots=3), Table()
    for number, tag in ((1, b"a"), (2, b"b")):
        subject.submit(0.0, job(number, tag=tag, most=2))
        run(subject, device)
    subject.submit(0.0, job(3, tokens=(1, 2, 3, 10), tag=b"b"))
    subject.submit(0.0, job(4, tokens=(1, 2, 3, 10), tag=b"c"))
    subject.submit(0.0, job(5, tokens=(1, 2, 3, 10), tag=b"d"))
    slots = {part.job: (part.slot, part.keep) for part in subject.plan(0.0).parts}
    assert slots == {3: (1, 3), 4: (2, 0), 5: (0, 0)}


def test_a_fault_ends_all_jobs_of_the_step_and_no_other():
    subject, device = batcher(slots=2), Table()
    for number in (1, 2, 3):
        subject.submit(0.0, job(number))
    subject.applied(0.0, subject.plan(0.0), Outcome(fault=Fault.DECODE))
    events = run(subject, device)
    assert of(events, 1)[-1] == of(events, 2)[-1] == Failed(fault=Fault.DECODE)
    assert isinstance(of(events, 3)[-1], Finished)


commands = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 40), st.sampled_from([b"a", b"b"])),
        st.tuples(st.sampled_from(["cancel", "pause", "resume"]), st.integers(0, 9)),
        st.tuples(st.just("step"), st.sampled_from(["ok", "ok", "ok", "fault", "emptied"])),
        st.tuples(st.just("wait"), st.sampled_from([0.5, PAUSE_HOLD, 60.0])),
    ),
    max_size=80,
)


@given(commands, st.integers(1, 3))
def test_every_job_ends_once_whatever_happens(commands, slots):
    subject, device, now = batcher(slots, beside=20), Table(), 0.0
    tags, cancelled = {}, []
    owners = {}  # slot -> the tag whose tokens the device holds there
    for command in commands:
        match command:
            case ("submit", length, tag):
                number = len(tags)
                tags[number] = tag
                subject.submit(now, job(number, tokens=tuple(range(length)), tag=tag, most=3))
            case ("cancel", number):
                subject.cancel(number)
                cancelled += [number] if number in tags else []
            case ("pause", number):
                subject.pause(now, number)
            case ("resume", number):
                subject.resume(number)
            case ("wait", seconds):
                now += seconds
            case ("step", result):
                step = subject.plan(now)
                if step is None:
                    continue
                for part in step.parts:
                    assert part.job not in cancelled
                    assert part.keep == 0 or tags[part.job] == owners[part.slot]
                    owners[part.slot] = tags[part.job]
                outcome = device.run(step)
                if result == "fault":
                    outcome = Outcome(fault=Fault.DECODE)
                if result == "emptied":
                    outcome = Outcome(emptied=tuple(part.slot for part in step.parts))
                subject.applied(now, step, outcome)
    for number in tags:
        subject.resume(number)
    events = subject.drain() + run(subject, device, now)
    for number in tags:
        check_order(of(events, number), was_cancelled=number in cancelled)
    assert subject.sizes()["busy"] == subject.sizes()["waiting"] == 0


def check_order(events, *, was_cancelled):
    ends = [event for event in events if isinstance(event, Finished | Failed)]
    assert len(ends) == 1 or (was_cancelled and not ends)
    assert not ends or events[-1] is ends[0]
    pieces = [event for event in events if isinstance(event, Piece)]
    ids = [token for piece in pieces for token in piece.ids]
    assert ids == list(range(10, 10 + len(ids)))
    assert [piece.first for piece in pieces] == list(range(len(pieces)))
    if pieces:
        assert isinstance(events[0], Begun)
    if ends and isinstance(ends[0], Finished):
        assert ends[0].usage.completion == len(ids)
