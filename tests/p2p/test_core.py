"""The contract of a core: the order of a step, deadlines, procedures and mailboxes."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2p.core import (
    COMMAND,
    DATAGRAM,
    EVENT,
    LIVELOCK_ROUNDS,
    TIMER,
    Command,
    Deadlines,
    Mailbox,
    Procedures,
    Send,
    step,
)
from p2p.errors import Livelock


class Diary:
    """A core that writes down what is done to it."""

    def __init__(self):
        self.pages = []
        self.deadlines = Deadlines()

    def receive(self, now, source, datagram):
        self.pages.append(("receive", source, datagram))

    def handle_timer(self, now):
        self.deadlines.run(now)

    def next_deadline(self):
        return self.deadlines.next()

    def drain(self):
        self.pages.append(("drain",))
        return [Send("there", b"sent")], ["event"]

    def sizes(self):
        return {}


class Lines(list):
    """A log that keeps its records."""

    def add(self, now, node, kind, peer, data):
        self.append((now, node, kind, peer, data))


# --- step ---


def test_step_runs_timers_then_commands_then_datagrams_then_timers_then_drains():
    core = Diary()
    core.deadlines.at(1.0, lambda: core.pages.append(("early",)))

    def command(core, now):
        core.pages.append(("command", now))
        core.deadlines.at(now, lambda: core.pages.append(("late",)))

    sends, events = step(core, 2.0, [Command("order", command)], [("a", b"1"), ("b", b"2")])

    assert core.pages == [
        ("early",),
        ("command", 2.0),
        ("receive", "a", b"1"),
        ("receive", "b", b"2"),
        ("late",),
        ("drain",),
    ]
    assert sends == [Send("there", b"sent")]
    assert events == ["event"]


def test_step_logs_inputs_and_events_in_their_order():
    core, log = Diary(), Lines()
    core.deadlines.at(1.0, lambda: None)
    step(core, 2.0, [Command("order", lambda core, now: None)], [("a", b"1")], log, 7)
    assert log == [
        (2.0, 7, TIMER, None, b""),
        (2.0, 7, COMMAND, None, b"order"),
        (2.0, 7, DATAGRAM, "a", b"1"),
        (2.0, 7, EVENT, None, b"'event'"),
    ]


def test_step_leaves_a_timer_alone_that_is_not_due():
    core, log = Diary(), Lines()
    core.deadlines.at(3.0, lambda: core.pages.append(("never",)))
    step(core, 2.0, [], [], log)
    assert core.pages == [("drain",)]
    assert log[0][2] == EVENT


def test_deadline_that_stays_in_the_past_is_a_livelock():
    core = Diary()
    core.next_deadline = lambda: 1.5
    with pytest.raises(Livelock) as caught:
        step(core, 2.0, [], [], node=4)
    assert (caught.value.node, caught.value.deadline) == (4, 1.5)


def test_as_many_rounds_as_allowed_are_no_livelock():
    core = Diary()
    for _ in range(LIVELOCK_ROUNDS):
        core.deadlines.at(1.0, lambda: None)
    core.handle_timer = lambda now: core.deadlines._heap.pop()
    step(core, 2.0, [], [])
    assert core.next_deadline() is None


# --- deadlines ---


def test_deadlines_fire_by_time_then_by_insertion():
    fired, deadlines = [], Deadlines()
    for when, name in [(2.0, "c"), (1.0, "a"), (1.0, "b"), (3.0, "later")]:
        deadlines.at(when, lambda name=name: fired.append(name))
    deadlines.run(2.0)
    assert fired == ["a", "b", "c"]
    assert deadlines.next() == 3.0


def test_action_may_add_what_is_due_at_once():
    fired, deadlines = [], Deadlines()
    deadlines.at(1.0, lambda: deadlines.at(1.0, lambda: fired.append("second")))
    deadlines.run(1.0)
    assert fired == ["second"]


def test_action_may_cancel_its_neighbour_and_itself():
    fired, deadlines, handles = [], Deadlines(), []
    handles.append(deadlines.at(1.0, lambda: [handle.cancel() for handle in handles]))
    handles.append(deadlines.at(1.0, lambda: fired.append("cancelled")))
    deadlines.run(1.0)
    assert fired == []
    assert len(deadlines) == 0


def test_heap_is_purged_once_over_half_of_it_is_dead():
    deadlines = Deadlines()
    handles = [deadlines.at(float(i), lambda: None) for i in range(100)]
    for handle in handles[:51]:
        handle.cancel()
    assert len(deadlines._heap) == len(deadlines) == 49


times = st.integers(0, 20).map(float)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("at"), times),
            st.tuples(st.just("cancel"), st.integers(0, 30)),
            st.tuples(st.just("run"), times),
        ),
        max_size=60,
    )
)
def test_deadlines_agree_with_a_plain_list(actions):
    deadlines, fired, expected = Deadlines(), [], []
    handles, model = [], {}
    for action, argument in actions:
        if action == "at":
            number = len(handles)
            handles.append(deadlines.at(argument, lambda n=number: fired.append(n)))
            model[number] = argument
        elif action == "cancel" and handles:
            handles[argument % len(handles)].cancel()
            model.pop(argument % len(handles), None)
        elif action == "run":
            deadlines.run(argument)
            due = sorted((when, n) for n, when in model.items() if when <= argument)
            expected += [n for _, n in due]
            for _, n in due:
                del model[n]

        assert fired == expected
        assert len(deadlines) == len(model)
        assert deadlines.next() == min(model.values(), default=None)


# --- procedures and mailboxes ---


def test_procedure_first_runs_when_it_is_stepped():
    procedures, said = Procedures(), []

    async def speak():
        said.append("hello")

    procedure = procedures.start(speak())
    assert said == []
    procedures.run()
    assert said == ["hello"]
    assert procedure.done


def test_put_marks_ready_and_never_resumes_at_once():
    procedures, mailbox, said = Procedures(), Mailbox(), []

    async def listen():
        said.append(await mailbox.get())
        said.append(await mailbox.get())

    procedure = procedures.start(listen())
    procedures.run()
    mailbox.put("a")
    mailbox.put("b")
    assert said == []
    procedures.run()
    assert said == ["a", "b"]
    assert procedure.done
    assert len(mailbox) == 0


def test_get_returns_at_once_what_is_there():
    procedures, mailbox, said = Procedures(), Mailbox(), []
    mailbox.put("early")

    async def listen():
        said.append(await mailbox.get())

    procedures.start(listen())
    procedures.run()
    assert said == ["early"]


def test_ready_procedures_go_on_first_in_first_out():
    procedures, said = Procedures(), []
    boxes = [Mailbox() for _ in range(3)]

    async def listen(name):
        said.append((name, await boxes[name].get()))
        boxes[(name + 1) % 3].put("passed on")

    for name in range(3):
        procedures.start(listen(name))
    procedures.run()
    boxes[2].put("x")
    boxes[0].put("y")
    procedures.run()
    assert said == [(2, "x"), (0, "y"), (1, "passed on")]


@pytest.mark.parametrize("foreign", [trio.sleep_forever, trio.lowlevel.checkpoint])
async def test_procedure_that_awaits_trio_is_a_type_error(foreign):
    procedures = Procedures()

    async def stray():
        await foreign()

    procedure = procedures.start(stray())
    with pytest.raises(TypeError, match="not a mailbox"):
        procedures.run()
    assert procedure.done


def test_cancel_runs_finally_now_and_nothing_after():
    procedures, mailbox, said = Procedures(), Mailbox(), []

    async def listen():
        try:
            said.append(await mailbox.get())
        finally:
            said.append("left")

    procedure = procedures.start(listen())
    procedures.run()
    procedure.cancel()
    assert said == ["left"]

    mailbox.put("late")
    procedures.run()
    assert said == ["left"]
    assert procedure.done


def test_cancel_before_the_first_run_starts_nothing():
    procedures, said = Procedures(), []

    async def speak():
        said.append("hello")

    procedures.start(speak()).cancel()
    procedures.run()
    assert said == []


def test_procedure_that_cancels_itself_ends_where_it_next_waits():
    procedures, mailbox, said = Procedures(), Mailbox(), []

    async def give_up():
        procedure.cancel()
        said.append("still here")
        await mailbox.get()
        said.append("never")

    procedure = procedures.start(give_up())
    procedures.run()
    mailbox.put("late")
    procedures.run()
    assert said == ["still here"]


def test_mailbox_of_a_cancelled_waiter_serves_the_next():
    procedures, mailbox, said = Procedures(), Mailbox(), []

    async def listen(name):
        said.append((name, await mailbox.get()))

    first = procedures.start(listen("first"))
    procedures.run()
    first.cancel()
    procedures.start(listen("second"))
    procedures.run()
    mailbox.put("x")
    procedures.run()
    assert said == [("second", "x")]


def test_two_waiters_on_one_mailbox_are_a_bug_that_shows():
    procedures, mailbox = Procedures(), Mailbox()

    async def listen():
        await mailbox.get()

    procedures.start(listen())
    procedures.start(listen())
    with pytest.raises(RuntimeError, match="two procedures"):
        procedures.run()


def test_timeout_is_an_entry_that_puts_something_in_the_mailbox():
    procedures, deadlines, mailbox, said = Procedures(), Deadlines(), Mailbox(), []

    async def ask():
        timeout = deadlines.at(5.0, lambda: mailbox.put("timeout"))
        said.append(await mailbox.get())
        timeout.cancel()

    procedures.start(ask())
    procedures.run()
    deadlines.run(5.0)
    procedures.run()
    assert said == ["timeout"]


def test_an_abandoned_mailbox_cancels_who_waits():
    ended = []

    async def wait(mailbox):
        try:
            await mailbox.get()
        finally:
            ended.append("closed")

    procedures, mailbox = Procedures(), Mailbox()
    procedure = procedures.start(wait(mailbox))
    procedures.run()
    mailbox.abandon()
    assert (ended, procedure.done) == (["closed"], True)
    mailbox.abandon()
    mailbox.put("late")
    procedures.run()
