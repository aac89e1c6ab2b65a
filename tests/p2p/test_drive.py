"""The trio driver: order, wake-ups, re-entrancy, cancellation; and its clock."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2p.core import Deadlines, Send
from p2p.drive import LONGEST_WAIT, Driver, SystemClock
from p2p.errors import Closed, NoCapacity


class Core:
    """Writes down what is done to it, and says what it is told to say."""

    def __init__(self, diary):
        self.diary = diary
        self.deadlines = Deadlines()
        self.sends = []
        self.events = []

    def receive(self, now, source, datagram):
        self.diary.append(("receive", datagram))
        self.events.append(datagram.decode())
        self.sends.append(Send(source, datagram.upper()))

    def say(self, now, word):
        self.diary.append(("command", word))
        self.events.append(word)
        self.sends.append(Send("there", word.encode()))
        return f"{word}, said"

    def at(self, now, delay, word):
        self.deadlines.at(now + delay, lambda: self.diary.append(("timer", word)))

    def refuse(self, now):
        self.sends.append(Send("there", b"refused"))
        raise NoCapacity("full")

    def handle_timer(self, now):
        self.deadlines.run(now)

    def next_deadline(self):
        return self.deadlines.next()

    def drain(self):
        sends, self.sends = self.sends, []
        events, self.events = self.events, []
        return sends, events

    def sizes(self):
        return {}


class Pipe:
    """A transport: `put` is what arrives, the diary gets what is sent."""

    def __init__(self, diary):
        self.diary = diary
        self.inbox = []
        self.stirred = trio.Event()
        self.shut = False

    def put(self, *datagrams):
        self.inbox += [("here", datagram) for datagram in datagrams]
        self.stirred.set()

    def take(self, limit=64):
        if self.shut:
            raise Closed("shut")
        taken, self.inbox = self.inbox[:limit], self.inbox[limit:]
        if not self.inbox:
            self.stirred = trio.Event()
        return taken

    async def wait(self):
        await self.stirred.wait()

    def send(self, now, to, data):
        self.diary.append(("send", data))


class Effects:
    """Writes events down, and does what a test wants done at one of them."""

    def __init__(self, diary):
        self.diary = diary
        self.at = {}

    def handle(self, now, event):
        self.diary.append(("event", event))
        if event in self.at:
            self.at.pop(event)()


class Setting:
    def __init__(self, clock):
        self.diary = []
        self.core = Core(self.diary)
        self.pipe = Pipe(self.diary)
        self.effects = Effects(self.diary)
        self.driver = Driver(self.core, self.pipe, self.effects, clock)

    def say(self, word):
        return self.driver.call("say", lambda core, now: core.say(now, word))


@pytest.fixture
async def setting(nursery):
    made = Setting(SystemClock(wall=lambda: 1000.0 + trio.current_time()))
    await nursery.start(made.driver.run)
    return made


# --- order ---


async def test_events_are_handled_before_sends_are_transmitted(setting, autojump_clock):
    setting.pipe.put(b"a", b"b")
    await wait_all_tasks_blocked()
    assert setting.diary == [
        ("receive", b"a"),
        ("receive", b"b"),
        ("event", "a"),
        ("event", "b"),
        ("send", b"A"),
        ("send", b"B"),
    ]


async def test_what_the_transport_keeps_back_is_taken_in_further_steps(setting, autojump_clock):
    setting.pipe.put(*[b"%d" % number for number in range(150)])
    await wait_all_tasks_blocked()
    assert [what for what, _ in setting.diary].count("receive") == 150
    assert setting.driver.statistics().datagrams == 150
    assert setting.driver.statistics().steps == 4  # the first, and 64 + 64 + 22


async def test_call_acts_at_once_and_returns(setting, autojump_clock):
    assert setting.say("hello") == "hello, said"
    assert setting.diary == [("command", "hello"), ("event", "hello"), ("send", b"hello")]


async def test_call_from_an_effect_acts_at_once_and_its_output_waits(setting, autojump_clock):
    said = []
    setting.effects.at["outer"] = lambda: said.append(setting.say("inner"))
    setting.say("outer")
    assert said == ["inner, said"]
    assert setting.diary == [
        ("command", "outer"),
        ("event", "outer"),
        ("command", "inner"),
        ("send", b"outer"),
        ("event", "inner"),
        ("send", b"inner"),
    ]


async def test_call_from_a_send_waits_its_turn_too(setting, autojump_clock):
    """As a carrier that finds its link gone while it is written to."""
    send = setting.pipe.send

    def send_and_call(now, to, data):
        send(now, to, data)
        if data == b"outer":
            setting.say("inner")

    setting.pipe.send = send_and_call
    setting.say("outer")
    assert [what for what in setting.diary if what[0] == "send"] == [
        ("send", b"outer"),
        ("send", b"inner"),
    ]


async def test_posted_command_joins_the_next_step_before_datagrams(setting, autojump_clock):
    setting.pipe.put(b"a")
    setting.driver.post("say", lambda core, now: core.say(now, "posted"))
    assert setting.diary == []
    await wait_all_tasks_blocked()
    assert setting.diary[:3] == [("command", "posted"), ("receive", b"a"), ("event", "posted")]
    assert setting.driver.statistics().steps == 2


async def test_command_posted_and_timers_wake_the_loop_after_many_arrivals(setting, autojump_clock):
    for number in range(5):
        setting.pipe.put(b"%d" % number)
        await wait_all_tasks_blocked()
    setting.diary.clear()
    setting.driver.post("at", lambda core, now: core.at(now, 5.0, "due"))
    await wait_all_tasks_blocked()
    await trio.sleep(5.1)
    assert setting.diary == [("timer", "due")]
    assert setting.driver.statistics().steps == 1 + 5 + 1 + 1


async def test_command_posted_by_an_effect_is_not_forgotten(setting, autojump_clock):
    setting.effects.at["a"] = lambda: setting.driver.post(
        "say", lambda core, now: core.say(now, "posted")
    )
    setting.pipe.put(b"a")
    await wait_all_tasks_blocked()
    assert ("send", b"posted") in setting.diary


# --- errors ---


async def test_refusal_of_a_command_reaches_its_caller_after_the_output(setting, autojump_clock):
    with pytest.raises(NoCapacity):
        setting.driver.call("refuse", Core.refuse)
    assert setting.diary == [("send", b"refused")]
    setting.say("still alive")


async def test_bug_in_a_command_reaches_its_caller(setting, autojump_clock):
    with pytest.raises(ZeroDivisionError):
        setting.driver.call("divide", lambda core, now: 1 // 0)


async def test_core_that_commands_itself_is_a_bug_that_shows(setting, autojump_clock):
    """As a tap would that calls its node: the core is in the middle of something."""
    with pytest.raises(RuntimeError, match="command itself"):
        setting.driver.call("tap", lambda core, now: setting.say("inside"))
    assert setting.diary == []
    setting.say("outside")


async def test_bug_in_a_core_ends_the_node(autojump_clock):
    setting = Setting(SystemClock())
    setting.core.receive = lambda now, source, datagram: 1 // 0
    setting.pipe.put(b"a")
    with pytest.raises(ZeroDivisionError):
        await setting.driver.run()


async def test_shut_transport_ends_the_run(setting, autojump_clock):
    other = Setting(SystemClock())
    other.pipe.shut = True
    with pytest.raises(Closed):
        await other.driver.run()


async def test_effect_that_fails_leaves_the_driver_usable(setting, autojump_clock):
    setting.effects.at["bad"] = lambda: 1 // 0
    with pytest.raises(ZeroDivisionError):
        setting.say("bad")
    setting.say("good")
    assert setting.diary[-1] == ("send", b"good")


# --- time ---


async def test_loop_wakes_at_the_deadline(setting, autojump_clock):
    setting.driver.call("at", lambda core, now: core.at(now, 5.0, "later"))
    start = trio.current_time()
    await trio.sleep(4.99)
    assert setting.diary == []
    await trio.sleep(0.02)
    assert setting.diary == [("timer", "later")]
    assert trio.current_time() - start < 5.1


async def test_call_that_moves_the_deadline_wakes_the_loop_in_time(setting, autojump_clock):
    setting.driver.call("at", lambda core, now: core.at(now, 20.0, "late"))
    await trio.sleep(1.0)
    setting.driver.call("at", lambda core, now: core.at(now, 1.0, "soon"))
    await trio.sleep(1.1)
    assert setting.diary == [("timer", "soon")]


async def test_loop_looks_at_the_clock_at_least_every_so_often(setting, autojump_clock):
    before = setting.driver.statistics().steps
    await trio.sleep(10 * LONGEST_WAIT + 1)
    assert setting.driver.statistics().steps == before + 10


async def test_deadline_in_a_slept_through_night_is_met_at_the_next_look(nursery, autojump_clock):
    """The wall went on while trio's clock stood: the loop's own look finds out."""
    slept = [0.0]
    setting = Setting(SystemClock(wall=lambda: 1000.0 + trio.current_time() + slept[0]))
    await nursery.start(setting.driver.run)
    setting.driver.call("at", lambda core, now: core.at(now, 3600.0, "morning"))
    slept[0] = 8 * 3600.0
    await trio.sleep(LONGEST_WAIT + 1)
    assert setting.diary == [("timer", "morning")]


# --- cancellation ---


async def test_cancelled_at_any_wait_the_driver_leaves_nothing_half_done(autojump_clock):
    for moment in range(30):
        setting = Setting(SystemClock())
        with trio.move_on_after(moment * 0.1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(setting.driver.run)
                for number in range(40):
                    setting.pipe.put(b"%d" % number)
                    await trio.sleep(0.07)
        kinds = [what for what, _ in setting.diary]
        assert kinds.count("receive") == kinds.count("event") == kinds.count("send")
        setting.say("after")  # the core can still be asked
        assert setting.diary[-1] == ("send", b"after")


async def test_statistics_count_inputs_and_outputs(setting, autojump_clock):
    setting.pipe.put(b"a", b"b")
    setting.say("c")
    await wait_all_tasks_blocked()
    counts = setting.driver.statistics()
    assert (counts.commands, counts.datagrams, counts.events, counts.sends) == (1, 2, 3, 3)


# --- the clock ---


class Wall:
    """A machine's two clocks."""

    def __init__(self):
        self.wall = 1_000_000.0
        self.monotonic = 50.0
        self.clock = SystemClock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)

    def pass_time(self, monotonic, wall=None):
        self.monotonic += monotonic
        self.wall += monotonic if wall is None else wall
        return self.clock.now()


def test_clock_starts_at_the_wall_and_follows_it():
    machine = Wall()
    assert machine.clock.now() == 1_000_000.0
    assert machine.pass_time(12.5) == 1_000_012.5


def test_clock_jumps_forward_after_a_sleep():
    machine = Wall()
    assert machine.pass_time(1.0, wall=3600.0) == 1_003_600.0
    assert machine.pass_time(1.0) == 1_003_601.0


@pytest.mark.parametrize("set_by", [-3600.0, -1.0, 0.5])
def test_clock_slews_towards_a_wall_that_was_set(set_by):
    machine = Wall()
    before = machine.pass_time(0.0, wall=set_by)
    after = machine.pass_time(100.0)
    assert after - before == pytest.approx(100.0 + (0.5 if set_by > 0 else -0.5))


def test_a_clock_that_was_minutes_ahead_at_the_start_is_right_on_the_same_day():
    machine = Wall()
    machine.pass_time(10.0, wall=-110.0)
    for _ in range(7 * 120):
        now = machine.pass_time(30.0)
    assert now == pytest.approx(machine.wall)


def test_clock_never_falls():
    machine = Wall()
    last = machine.clock.now()
    for monotonic, wall in [(0.0, -10.0), (0.001, -1.0), (0.0, 50.0), (0.0, -500.0), (5.0, 5.0)]:
        now = machine.pass_time(monotonic, wall=wall)
        assert now >= last
        last = now


def test_clock_meets_the_wall_in_the_end():
    machine = Wall()
    machine.pass_time(0.0, wall=-0.5)
    for _ in range(40):
        now = machine.pass_time(100.0)
    assert now == pytest.approx(machine.wall)


async def test_clock_of_the_system_places_instants_on_trios():
    clock = SystemClock()
    assert clock.trio_time(clock.now() + 10.0) == pytest.approx(trio.current_time() + 10.0, abs=1.0)
