"""What a node says of itself stays true without anybody thinking of it."""

import pytest

from p2p.entropy import seeded
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Fields, Role, Rules
from p2p.overlay.announcer import Announcer
from p2p.overlay.liveness import PulseBook, State
from p2p.overlay.pulse import Kind
from p2p.wire import Endpoint

HERE = (Endpoint("127.0.0.1", 4001),)
RELAY = Fields(roles=Role.RELAY)
OPEN = Rules(network=7)


def key_of(day):
    return day.to_bytes(32, "big")


@pytest.fixture
def announcer(nodes):
    made = Announcer(nodes.identity(1), nodes.rules, seeded(1), key_of)
    made.listen(HERE)
    return made


def said(announcer, now, rules):
    return adverts.parse(announcer.advert, now, rules)


def test_nothing_is_said_unasked(announcer, nodes):
    assert announcer.advert is None
    assert announcer.due() is None
    announcer.renew(nodes.now + 1_000)
    announcer.leave(nodes.now + 1_000)
    announcer.outbid(nodes.now, 5)
    assert announcer.advert is None


def test_the_rest_is_filled_in(announcer, nodes):
    announcer.say(nodes.now, RELAY)
    advert = said(announcer, nodes.now, nodes.rules)
    offers = Role.DIALABLE | Role.DIRECTORY | Role.ATTACHMENT
    assert advert.roles == Role.RELAY | offers
    assert advert.addresses == HERE
    assert advert.onion.day == int(nodes.now // 86_400)
    assert advert.onion.key == key_of(advert.onion.day)
    assert advert.seq == announcer.seq == int(nodes.now)


def test_who_cannot_be_dialled_does_not_say_so(nodes):
    announcer = Announcer(nodes.identity(1), nodes.rules, seeded(1), key_of)
    announcer.say(nodes.now, Fields(roles=Role.WORKER, attachments=(nodes.id(2),)))
    advert = said(announcer, nodes.now, nodes.rules)
    assert advert.roles == Role.WORKER
    assert advert.addresses == ()
    with pytest.raises(ValueError, match="no way to reach it"):
        announcer.say(nodes.now, Fields(roles=Role.WORKER))


def test_a_patient_one_waits_until_there_is_a_way(nodes):
    announcer = Announcer(nodes.identity(1), nodes.rules, seeded(1), key_of, patient=True)
    announcer.say(nodes.now, Fields(roles=Role.WORKER))
    assert announcer.advert is None
    announcer.attach(nodes.now + 3.0, (nodes.id(2),))
    assert said(announcer, nodes.now + 3.0, nodes.rules).attachments == (nodes.id(2),)
    announcer.attach(nodes.now + 6.0, ())
    before = announcer.advert
    announcer.renew(announcer.due())
    assert announcer.advert == before
    with pytest.raises(ValueError, match="life"):
        announcer.say(nodes.now + 20.0, Fields(roles=Role.WORKER, life=5))


def test_what_nobody_would_take_changes_nothing(announcer, nodes):
    wrong = Fields(roles=Role.RELAY, life=5)
    with pytest.raises(ValueError, match="life"):
        announcer.say(nodes.now, wrong)
    assert (announcer.advert, announcer.due()) == (None, None)
    announcer.say(nodes.now, RELAY)
    before = announcer.advert
    with pytest.raises(ValueError, match="life"):
        announcer.say(nodes.now, wrong)
    assert announcer.advert == before
    announcer.renew(announcer.due())
    assert said(announcer, nodes.now + 10, nodes.rules).fields.life == 60


def test_an_open_network_too_refuses_before_it_works(nodes):
    announcer = Announcer(nodes.identity(1), OPEN, seeded(1), key_of)
    announcer.listen(HERE)
    with pytest.raises(ValueError, match="private"):
        announcer.say(nodes.now, RELAY)
    assert announcer.wants_work(nodes.now) is None


def test_it_is_said_again_within_an_epoch_but_not_at_the_same_beat(nodes):
    gaps = []
    for seed in range(20):
        announcer = Announcer(nodes.identity(1), nodes.rules, seeded(seed), key_of)
        announcer.listen(HERE)
        announcer.say(nodes.now, RELAY)
        gaps.append(announcer.due() - nodes.now)
    assert 9.0 <= min(gaps) < 9.3
    assert 9.7 < max(gaps) <= 10.0


def test_each_issue_has_a_greater_seq(announcer, nodes):
    announcer.say(nodes.now, RELAY)
    announcer.say(nodes.now, RELAY)
    announcer.say(nodes.now, Fields(roles=Role.RELAY | Role.ATTACHMENT))
    assert announcer.seq == int(nodes.now) + 2
    due = announcer.due()
    announcer.renew(due - 0.001)
    assert announcer.seq == int(nodes.now) + 2
    announcer.renew(due)
    assert announcer.seq == int(due)
    assert said(announcer, due, nodes.rules).issued == int(due)


def test_a_new_day_brings_its_onion_key(announcer, nodes):
    midnight = (nodes.now // 86_400 + 1) * 86_400
    announcer.say(midnight - 5, RELAY)
    before = said(announcer, midnight - 5, nodes.rules).onion
    announcer.renew(announcer.due())
    after = said(announcer, midnight + 5, nodes.rules).onion
    assert (before.day + 1, key_of(before.day + 1)) == after


def test_leaving_is_the_last_word(announcer, nodes):
    announcer.say(nodes.now, RELAY)
    announcer.leave(nodes.now + 1)
    advert = said(announcer, nodes.now + 1, nodes.rules)
    assert (advert.roles, advert.seq, advert.addresses) == (0, int(nodes.now) + 1, ())
    assert announcer.due() is None
    announcer.renew(nodes.now + 1_000)
    announcer.outbid(nodes.now + 1_000, 2**40)
    assert announcer.advert == advert.buffer


def test_an_advert_of_a_life_before_is_outbid(announcer, nodes):
    announcer.say(nodes.now, RELAY)
    announcer.outbid(nodes.now, int(nodes.now) + 50)
    assert announcer.seq == int(nodes.now) + 51
    announcer.outbid(nodes.now, 5)
    assert announcer.seq == int(nodes.now) + 52


def test_an_open_network_waits_for_work_each_day(nodes, monkeypatch):
    monkeypatch.setattr(adverts, "is_work", lambda public, day, nonce: nonce == bytes(8))
    announcer = Announcer(nodes.identity(1), OPEN, seeded(1), key_of)
    announcer.listen((Endpoint("8.8.4.4", 4001),))
    assert announcer.wants_work(nodes.now) is None
    announcer.say(nodes.now, RELAY)
    day = announcer.wants_work(nodes.now)
    assert day == int(nodes.now // 86_400)
    assert announcer.advert is None

    announcer.work(nodes.now, day, bytes(8))
    assert announcer.wants_work(nodes.now) is None
    first = said(announcer, nodes.now, OPEN)
    assert first.fields.work == bytes(8)

    tomorrow = (day + 1) * 86_400.0
    announcer.renew(tomorrow)
    assert announcer.wants_work(tomorrow) == day + 1
    assert announcer.advert == first.buffer
    announcer.work(tomorrow, day + 1, bytes(8))
    assert said(announcer, tomorrow, OPEN).seq > first.seq
    announcer.leave(tomorrow)
    assert said(announcer, tomorrow, OPEN).roles == 0


# --- a node that beats ---


@pytest.fixture
def beating(nodes):
    made = Announcer(nodes.identity(1), nodes.rules, seeded(1), key_of, beating=True)
    made.listen(HERE)
    return made


def taken(nodes, announcer, now):
    """A book that expects the pulses of what is said."""
    book = PulseBook(nodes.rules.epoch)
    advert = said(announcer, now, nodes.rules)
    anchors = advert.fields.anchors
    book.expect(advert.id, advert.issued, anchors.open + anchors.busy)
    return book


def test_a_node_that_beats_says_where_its_pulses_end_and_lives_long(beating, nodes):
    beating.say(nodes.now, RELAY)
    advert = said(beating, nodes.now, nodes.rules)
    assert advert.fields.life == 1_500
    book = taken(nodes, beating, nodes.now)
    for _ in range(40):
        now = beating.due()
        pulse = beating.beat(now)
        assert book.take(now, nodes.id(9), [pulse]) == [pulse]
        assert book.state(now, nodes.id(1)) is State.OPEN
        assert beating.beat(now) is None
    assert beating.seq == advert.seq


def test_a_node_that_beats_is_issued_anew_after_a_third_of_its_life(beating, nodes):
    beating.say(nodes.now, RELAY)
    first, now = beating.seq, nodes.now
    while beating.seq == first:
        now = beating.due()
        beating.beat(now)
        beating.renew(now)
    assert 450.0 <= now - nodes.now <= 500.0
    pulse = beating.beat(now + 20.0)
    assert taken(nodes, beating, now).take(now + 20.0, nodes.id(9), [pulse]) == [pulse]


def test_a_new_day_is_told_within_its_first_hour(nodes):
    times = []
    for number in range(1, 30):
        announcer = Announcer(nodes.identity(number), OPEN, seeded(number), key_of, beating=True)
        announcer.listen((Endpoint("8.8.4.4", 4001),))
        late = (nodes.now // 86_400) * 86_400 + 86_000
        announcer.say(late, RELAY)
        times.append(announcer.due() - late - 400)
    assert all(0 <= when <= 3_600 for when in times)
    assert max(times) - min(times) > 1_800


def test_busy_is_told_at_once_and_stays_told(beating, nodes):
    beating.say(nodes.now, RELAY)
    book = taken(nodes, beating, nodes.now)
    now = nodes.now + 10.0
    pulse = beating.busy(now)
    assert book.take(now, nodes.id(9), [pulse]) == [pulse]
    assert book.state(now, nodes.id(1)) is State.BUSY
    beating.say(now, RELAY)
    again = beating.due()
    assert beating.beat(again).kind is Kind.BUSY
    beating.free()
    assert beating.beat(beating.due()).kind is Kind.OPEN


def test_what_changes_by_itself_is_said_but_not_too_often(beating, nodes):
    beating.move(nodes.now, HERE)
    assert beating.advert is None
    beating.say(nodes.now, RELAY)
    first = beating.seq
    there = (Endpoint("127.0.0.2", 4001),)
    beating.move(nodes.now + 0.5, there)
    beating.move(nodes.now + 0.6, there)
    assert beating.seq == first
    assert beating.due() == nodes.now + 1.0
    beating.renew(nodes.now + 1.0)
    assert said(beating, nodes.now + 1.0, nodes.rules).addresses == there
    beating.attach(nodes.now + 9.0, (nodes.id(5),))
    assert said(beating, nodes.now + 9.0, nodes.rules).attachments == (nodes.id(5),)


def test_who_leaves_beats_no_longer(beating, nodes):
    beating.say(nodes.now, RELAY)
    beating.leave(nodes.now + 1.0)
    assert beating.due() is None
    assert beating.beat(nodes.now + 100.0) is None
    assert beating.busy(nodes.now + 100.0) is None
