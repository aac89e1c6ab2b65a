"""The engine's and the audit's benchmarks: what they make of what they measured."""

import pytest

from inference.audit import Claim, Verdict
from inference.engine.base import Sampling, Scored
from scripts.bench import audit, engine, foreign, report
from scripts.bench.report import Result


def record(name, means):
    """A subject whose answers of 64 tokens had these mean margins."""
    subject = next(one for one in audit.SUBJECTS if one.name == name)
    kept = audit.Record(subject=subject)
    for number, mean in enumerate(means, 1):
        claim = Claim(
            worker=kept.id,
            model=audit.MODEL,
            sampling=Sampling(nonce=bytes(16)),
            prompt=9,
            replayed=9,
            scored=Scored(margins=(mean,) * 64),
        )
        kept.note(number, claim)
    return kept


def bench(honest, cheat):
    records = [record("honest_same_build", honest), record("cheat_q4_0", cheat)]
    return audit._bench(records, quick=False, answers=len(honest), is_builtin=True)


def met(subject):
    return {aim.name: aim.met for aim in subject.aims}


def test_an_audit_that_finds_cheats_and_spares_the_honest_meets_its_aims(validate):
    subject = bench([0.0] * 50, [0.1] * 50)
    assert met(subject) == {"honest_failed": True, "cheats_passed": True}
    rows = {row.name: row.value for row in subject.results}
    assert rows["cheat_q4_0_banned_after"] == 4
    assert rows["honest_same_build_tokens_equal"] == 1.0
    validate(report.document(subject, report.machine()), "bench")


def test_a_cheat_that_is_not_banned_and_an_honest_one_that_is_miss_them():
    assert met(bench([0.0] * 50, [0.001] * 50)) == {"honest_failed": True, "cheats_passed": False}
    assert met(bench([0.1] * 50, [0.1] * 50)) == {"honest_failed": False, "cheats_passed": True}


def test_a_ban_is_told_even_if_later_answers_are_better():
    kept = record("cheat_wrong_seed", [0.2] * 4 + [0.0] * 60)
    assert (kept.verdict, kept.banned_at) == (Verdict.FAILED, 4)


def test_every_subject_is_either_honest_or_a_cheat_by_name_and_deed():
    for subject in audit.SUBJECTS:
        cheats = bool(subject.weights or subject.own_seed or subject.own_prompt)
        assert cheats is not subject.is_honest
        assert subject.name.startswith("honest" if subject.is_honest else "cheat")


def test_a_server_that_is_not_installed_is_a_note_and_no_row(monkeypatch):
    monkeypatch.setattr(foreign, "NEEDS", ("no_such_package",))
    rows, notes = foreign.measured(None, 8, 1, [], print)
    assert rows == []
    assert "no_such_package" in notes[0]


@pytest.mark.parametrize("ratio", [0.9, 0.97])
def test_speed_is_held_against_the_bare_loop(ratio):
    row = Result(name="tokens_per_second_8", value=1.0, unit="1/s", ratio=ratio, against="loop")
    (aim,) = report.judged([row], engine.AIMS)
    assert aim.met is (ratio >= 0.95)
