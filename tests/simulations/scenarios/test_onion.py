"""Who is joined with whom, through real choices, against closed forms: rows 8 to 12.

Three standard errors; seeds are fixed. Finite forms stand where relays are drawn without
replacement. `more` draws, and so narrower bounds, are for the slow run.
"""

import math

import pytest

from p2p import defaults
from p2p.entropy import seeded
from p2p.identity import AdnlId
from p2p.onion.path import Role
from simulations import theory
from simulations.adversary.coalition import Coalition
from simulations.asker import Asker, Fate, Habits, Surroundings
from simulations.reading import WrongExperiment
from simulations.register import MODEL, Register, address, member
from simulations.timeline import Timeline

RELAYS, WORKERS = 60, 20


@pytest.fixture(params=[1, pytest.param(10, marks=pytest.mark.slow)])
def more(request):
    return request.param


def near(form, count, errors=3.0):
    """As a measured proportion of `count` trials should be."""
    return pytest.approx(form, abs=errors * math.sqrt(form * (1.0 - form) / count))


def town(clients, rate, *, bad, bad_workers, guards, relays=3, **adversary):
    nodes = clients + RELAYS + WORKERS
    return {
        "run": {"nodes": nodes},
        "nodes": {
            "mix": {
                "client": clients / nodes,
                "relay": RELAYS / nodes,
                "worker": WORKERS / nodes,
            }
        },
        "workload": {"arrivals": {"kind": "poisson", "rate": rate}},
        "protocol": {"onion.guards": guards, "onion.relays": relays},
        "adversary": [
            {"kind": "relays", "share": bad, **adversary},
            {"kind": "workers", "share": bad_workers},
        ],
    }


# --- rows 8, 9, 10 and 12 ---


def test_first_and_last_relay_are_bad_as_often_as_the_form_says(play, more):
    """Row 8, c (c - 1) / (n (n - 1)): a path's relays are distinct."""
    _, seen = play("onion", 500 * more, **town(40, 1.0, bad=0.2, bad_workers=0.0, guards=False))
    linked = seen["linked"]
    assert linked.mean == near(theory.both_ends(RELAYS, RELAYS // 5), linked.count)
    assert seen["linked_prompt"].total == 0


@pytest.mark.parametrize("guards", [True, False])
def test_ends_are_joined_as_often_as_the_forms_say(play, guards, more):
    """Rows 9 and 10: guards change nothing of one conversation, and much of many."""
    users, asks, bad = 40 * more, 14, 0.2
    settings = town(users, 1.0, bad=bad, bad_workers=bad, guards=guards)
    onion, seen = play("onion", users * asks, **settings)
    count = seen["linked"].count
    # behind guards a user's conversations share their first hop: users are what is independent
    trials = users if guards else count
    assert seen["bad_guard"].mean == near(bad, trials)
    assert seen["bad_worker"].mean == near(bad, count)
    worker = theory.worker_linked_of(RELAYS, round(bad * RELAYS), bad)
    assert seen["linked"].mean == near(worker, trials)
    assert seen["linked_prompt"].mean == near(theory.prompt_linked(bad, bad), trials)

    form = theory.guarded if guards else theory.ever_linked
    assert seen["users_linked"].count == users
    assert seen["users_linked"].mean == near(form(bad, bad, asks), users)
    assert seen["time_to_link_s"].count == seen["users_linked"].total
    assert onion.sizes(0)["guards"] == (defaults.GUARDS if guards else 0)


def test_guard_and_worker_are_bad_together_once_in_so_many_paths(play, more):
    """Row 12: (N / c)^2 for ends drawn apart, and N (N - 1) / (c (c - 1)) for two relays."""
    settings = town(40, 1.0, bad=0.3, bad_workers=0.3, guards=False)
    _, seen = play("onion", 500 * more, **settings)
    prompts = seen["linked_prompt"]
    apart = theory.rounds(WORKERS, round(0.3 * WORKERS))
    assert prompts.count / prompts.total == pytest.approx(apart, rel=3 / math.sqrt(prompts.total))


def test_one_relay_that_is_bad_sees_both_ends(play):
    """With one relay it is guard and last at once: the chance is its share, not the square."""
    settings = town(100, 1.0, bad=0.2, bad_workers=0.0, guards=False, relays=1)
    _, seen = play("onion", 400, **settings)
    assert seen["linked"].mean == near(0.2, seen["linked"].count)


def test_bad_worker_cannot_tell_its_asker_from_those_behind_honest_guards(play):
    settings = town(100, 2.0, bad=0.3, bad_workers=0.3, guards=True)
    _, seen = play("onion", 250, **settings)
    joined = seen["linked_prompt"].total / seen["bad_worker"].total
    assert 0.0 < seen["degree"].mean < 1.0 - joined
    assert seen["entropy_bits"].mean == seen["min_entropy_bits"].mean > 2.0
    assert seen["candidate_workers"].mean == WORKERS
    assert seen["bytes{onion}"].total > 0


@pytest.mark.parametrize(("relays", "legs"), [(1, 6), (2, 10), (3, 14)])
def test_relays_add_so_many_ways_to_the_first_token(play, relays, legs):
    settings = town(10, 1.0, bad=0.0, bad_workers=0.0, guards=True, relays=relays)
    settings["network"] = {"latency": {"kind": "constant", "rtt_ms": 80.0}}
    _, seen = play("onion", 30, **settings)
    assert seen["path_s"].mean == pytest.approx(0.04 * legs)


# --- row 11, and what stands against it ---


class Attacked:
    """Fates by a coalition alone, at once."""

    def __init__(self, coalition):
        self.coalition = coalition
        self.paths = []

    def fate(self, now, asker, path):
        self.paths.append(path)
        killer = self.coalition.killer(path)
        opened = self.coalition.kill == "open"
        return Fate(seconds=0.1, ended_by=killer, opened=opened)


class Errand:
    def __init__(self):
        self.stood = []

    def admits(self, path):
        return None

    def stands(self, conversation):
        self.stood.append(conversation)

    def fails(self, failed):
        pass


def attacked(bad, bad_workers, *, guards=False, **how):
    """Askers, each a new one, among so many bad relays and workers."""
    relays = [member(i, Role.RELAY, address(i, 0)) for i in range(RELAYS)]
    workers = [member(100 + i, Role.WORKER, address(100 + i, 0), model=MODEL) for i in range(20)]
    coalition = Coalition(
        [each.view.id for each in relays[:bad]],
        [each.view.id for each in workers[:bad_workers]],
        **how,
    )
    around = Surroundings(
        timeline=Timeline(),
        register=Register([*relays, *workers]),
        fates=Attacked(coalition),
        habits=Habits(guards=guards),
    )

    def asker(number):
        return Asker(number, AdnlId(bytes(32)), around, seeded(number))

    return asker, around, coalition


def ask(asker, around):
    """The conversations that come of one ask, none or one; all its tries included."""
    errand = Errand()
    asker.ask(around.register.workers, errand)
    around.timeline.run(around.timeline.now + 300.0)
    return errand.stood


@pytest.mark.parametrize(("goal", "bad_workers"), [("worker", 0), ("prompt", 6)])
def test_killing_what_cannot_be_joined_pays_as_the_form_says(goal, bad_workers, more):
    """Row 11, of circuits that stood at the first try: later ones go round whom they suspect."""
    asker, around, coalition = attacked(18, bad_workers, kill="build", goal=goal)
    stood = [
        c for number in range(400 * more) for c in ask(asker(number), around) if c.circuits == 1
    ]
    joins = [coalition.joins(c.path) for c in stood]
    linked = sum(j.prompt if goal == "prompt" else j.worker for j in joins)
    form = theory.denied_of(RELAYS, 18, workers=0.3 if goal == "prompt" else None)
    assert linked / len(stood) == near(form, len(stood))


def is_left(around, someone, paths, after=40):
    """Whether the guard of the first path stands on none of those after the first 40."""
    while len(paths) <= after:
        ask(someone, around)
    return paths[after][0] != paths[0][0]


@pytest.mark.parametrize("bad_guard", [True, False])
def test_guard_that_kills_most_is_left_within_40_paths_as_the_form_says(bad_guard, more):
    """A bad guard lets pass what ends at a bad relay; an honest one fails with a bad second.

    With an honest guard fewer are left than by the form: a bad second that failed an ask is gone
    round by the same ask.
    """
    asker, around, coalition = attacked(18, 0, guards=True, kill="build")
    left = []
    for number in range(30 * more):
        around.fates.paths = paths = []
        someone = asker(number)
        ask(someone, around)
        if coalition.sees_asker(paths[0]) == bad_guard:
            left.append(is_left(around, someone, paths))
    passes = (17 if bad_guard else 41) / (RELAYS - 1)
    form = theory.banned(passes, defaults.BIAS_TRIES, defaults.BIAS_RATE, 40)
    least = form if bad_guard else 0.0
    error = 3.0 * math.sqrt(form * (1.0 - form) / len(left))
    assert least - error <= sum(left) / len(left) <= form + error


@pytest.mark.slow
def test_guards_that_grow_old_are_so_many_more_chances():
    """Row 10 over four months: a guard is kept for 45 to 75 days, then the next is used."""
    asker, around, coalition = attacked(18, 1, guards=True)
    users, linked, forms = 100, 0, []
    for number in range(users):
        someone, through, joined = asker(number), {}, False
        for _ in range(60):
            around.timeline.run(around.timeline.now + 2 * 86_400.0)
            (conversation,) = ask(someone, around)
            guard = conversation.path[0]
            through[guard] = through.get(guard, 0) + 1
            joined |= coalition.joins(conversation.path).prompt
        linked += joined
        forms.append(theory.guards_linked(18 / RELAYS, 1 / 20, list(through.values())))
    form = sum(forms) / users
    assert form > 1.2 * theory.guarded(18 / RELAYS, 1 / 20, 60)
    assert linked / users == near(form, users)


def test_guard_that_kills_circuits_once_they_stand_is_left():
    """Something came from beyond it each time: it is the count of those killed that sees it.

    Of its paths every other is tried through the next guard, within the same ask.
    """
    asker, around, coalition = attacked(18, 0, guards=True, kill="open")
    left = []
    for number in range(60):
        around.fates.paths = paths = []
        someone = asker(number)
        ask(someone, around)
        if coalition.sees_asker(paths[0]):
            left.append(is_left(around, someone, paths, after=80))
            assert someone.guards.passed == someone.guards.tries > 80
    assert sum(left) / len(left) > 0.9


# --- who only watches ---


@pytest.mark.slow
def test_shaping_hides_from_a_correlator_what_it_joins_without(play):
    """Where others ask at the same time. It is a simple one, and knows no answer's length."""
    found = []
    for rate in (0, 4):
        settings = town(60, 1.0, bad=0.0, bad_workers=0.0, guards=True)
        settings["adversary"] = [{"kind": "observer", "rate": rate}]
        found.append(play("onion", 60, **settings)[1]["true_positive"].mean)
    assert found[0] > 0.2
    assert found[1] < 0.1


# --- a worker that last relays deny ---


@pytest.mark.slow
@pytest.mark.parametrize("once_open", [False, True])
def test_worker_that_a_tenth_of_the_relays_deny_keeps_nine_tenths_of_its_share(play, once_open):
    """By word, it takes two bad last relays, as a second path checks; by deed one, for an hour."""
    settings = town(60, 0.25, bad=0.0, bad_workers=0.0, guards=True)
    settings["adversary"] = [{"kind": "deny", "share": 0.1, "once_open": once_open}]
    _, seen = play("onion", 20_000, **settings)
    denied = seen["denied_worker"]
    kept = (0.9 if once_open else 0.99) / WORKERS
    error = 3.0 * math.sqrt(kept / denied.count)
    assert kept - error <= denied.mean <= kept + error


# --- the setting ---


def test_same_seed_same_digest_and_another_seed_another(play):
    settings = town(10, 1.0, bad=0.3, bad_workers=0.3, guards=True, kill="build")
    digests = [play("onion", 60, seed=seed, **settings)[0].log.digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_sybil_with_one_block_of_addresses_has_one_slot_and_one_place_on_a_path(play, more):
    settings = town(60, 1.0, bad=0.0, bad_workers=0.0, guards=False)
    settings["adversary"] = [{"kind": "sybil", "relays": 40, "workers": 40, "blocks": 1}]
    _, seen = play("onion", 300 * more, **settings)
    count = seen["linked"].count
    assert seen["linked"].total == seen["linked_prompt"].total == 0
    assert seen["bad_worker"].mean == near(1 / (WORKERS + 1), count)
    # 61 operators: of the draws of a guard one may have 5 %, not 40 of 100
    assert seen["bad_guard"].mean == near(defaults.OPERATOR_SHARE, count)


@pytest.mark.parametrize(
    ("adversary", "words"),
    [
        ({"kind": "relay"}, "Known are deny, observer, relays"),
        ({"kind": "relays", "kil": "open"}, "Did you mean adversary.relays.kill"),
        ({"kind": "relays", "kill": "opens"}, "Did you mean open"),
        ({"kind": "workers", "nodes": [0]}, "from 100 to"),
        ({"kind": "deny", "share": 0.1, "worker": 20}, "below 20"),
    ],
)
def test_what_an_attacker_cannot_be_is_refused_in_words(play, adversary, words):
    settings = town(40, 1.0, bad=0.0, bad_workers=0.0, guards=False)
    settings["adversary"] = [adversary]
    with pytest.raises(WrongExperiment, match=words):
        play("onion", 1, **settings)
