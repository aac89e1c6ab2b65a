"""Fetching a list from servers of which some are wrong: two of three decide each entry."""

from itertools import count

import pytest

from p2p.core import Procedures
from p2p.entropy import seeded
from p2p.errors import DirectorySplit, Timeout, Unreachable
from p2p.identity import AdnlId
from p2p.overlay import advert as adverts
from p2p.overlay import bodies
from p2p.overlay.asking import Asking
from p2p.overlay.bodies import Item, Pulled, Refusal, Rooted
from p2p.overlay.fetch import Fetch, Fetched
from p2p.overlay.snapshot import Snapshot
from p2p.overlay.witness import entry_of

CUT = 1_800_000_005


class Shelf:
    """A server with this list; it may say that it has another root, or give less than it lists."""

    def __init__(self, snapshot, *, root=None, gives=None, days=1, live=0):
        self.snapshot = snapshot
        self.root = root or snapshot.root
        self.gives = snapshot.adverts if gives is None else gives
        self.days, self.live = days, live

    def answer(self, call):
        match call:
            case bodies.Root():
                return bodies.pack_rooted(Rooted(len(self.snapshot), self.root, self.live))
            case bodies.Buckets():
                return bodies.pack_buckets(self.snapshot.buckets)
            case bodies.List(_, numbers):
                return bodies.pack_list([self.items(number) for number in numbers])
            case bodies.Get(digests):
                wanted = set(digests)
                return bodies.pack_adverts([a.buffer for a in self.gives if a.digest in wanted])
            case bodies.Pull(_, first, last):
                inside = [a.buffer for a in self.gives if first <= a.id[0] <= last]
                return bodies.pack_pulled(Pulled(last + 1, inside))

    def items(self, number):
        bucket = self.snapshot.bucket(number)
        return b"".join(bodies.pack_item(Item(entry_of(a), self.days)) for a in bucket)


class Gone:
    """A server that does not answer, from the call of this number on."""

    def __init__(self, shelf=None, after=0):
        self._shelf, self._after = shelf, after
        self._calls = count()

    def answer(self, call):
        if self._shelf is None or next(self._calls) >= self._after:
            raise Timeout
        return self._shelf.answer(call)


class Refusing:
    """A server that is too busy, or has no list."""

    def __init__(self, code=Refusal.UNKNOWN):
        self._code = code

    def answer(self, call):
        return bodies.pack_refusal(self._code)


class Junk:
    """A server that answers what breaks a rule."""

    def answer(self, call):
        return b"\xff"


class Library:
    """All servers, and what they were asked."""

    def __init__(self, *shelves):
        self.shelves = dict(enumerate(shelves))
        self.asked = []

    async def __call__(self, peer, body, /, *, timeout, max_answer):  # noqa: ASYNC109
        call = bodies.read_call(body)
        self.asked.append((peer[0], type(call)))
        answer = self.shelves[peer[0]].answer(call)
        assert len(answer) <= max_answer
        return answer

    def fetch(self, rules, own=None, *, least=2):
        """What a fetch comes to: its result, or what it raises; and the fetch."""
        procedures, ended = Procedures(), []
        fetch = Fetch(
            Asking(self, procedures),
            seeded(1),
            rules,
            cut=CUT,
            own=own,
            sources=[AdnlId(bytes([number]) * 32) for number in self.shelves],
            held=(own or Snapshot(0, ())).body,
            least=least,
        )

        async def run():
            try:
                ended.append(await fetch.run())
            except (DirectorySplit, Unreachable) as error:
                ended.append(error)

        procedures.start(run())
        procedures.run()
        (outcome,) = ended
        return outcome, fetch

    def count(self, kind, peer=None):
        return sum(k is kind and peer in (None, p) for p, k in self.asked)


@pytest.fixture(scope="module")
def shelves(nodes_once):
    """Snapshots of the adverts of these numbers."""
    nodes = nodes_once

    def snapshot(*numbers, **changes):
        buffers = [nodes.advert(number, **changes) for number in numbers]
        return Snapshot(CUT, [adverts.read(b, CUT, nodes.rules) for b in buffers])

    return snapshot


@pytest.fixture
def rules(nodes_once):
    return nodes_once.rules


EVERYBODY = range(40)


def names(fetch):
    return {peer[0] for peer in fetch.aside}


# --- all agree ---


def test_a_first_list_is_taken_whole_and_its_days_are_the_median(shelves, rules):
    whole = shelves(*EVERYBODY)
    library = Library(Shelf(whole, days=7), Shelf(whole, days=2, live=9), Shelf(whole, days=3))
    fetched, _ = library.fetch(rules)
    assert fetched.list.root == whole.root
    assert (fetched.agreeing, fetched.answering) == (3, 3)
    assert set(fetched.days.values()) == {3}
    assert fetched.days.keys() == {advert.id for advert in whole.adverts}
    assert (library.count(bodies.Root), library.count(bodies.List)) == (3, 3)


def test_what_differs_from_the_last_list_is_all_that_is_asked_of_one(shelves, rules):
    own, whole = shelves(*range(35)), shelves(*EVERYBODY)
    library = Library(*[Shelf(whole) for _ in range(3)])
    fetched, _ = library.fetch(rules, own)
    assert fetched.list.root == whole.root
    assert fetched.days == {}
    kinds = [kind for _, kind in library.asked]
    assert kinds == [bodies.Root] * 3 + [bodies.Buckets, bodies.List, bodies.Get]


def test_the_same_list_again_costs_three_roots(shelves, rules):
    whole = shelves(*EVERYBODY)
    library = Library(*[Shelf(whole) for _ in range(3)])
    fetched, _ = library.fetch(rules, whole)
    assert fetched.list.root == whole.root
    assert [kind for _, kind in library.asked] == [bodies.Root] * 3


def test_who_has_left_is_in_the_list_no_longer(shelves, rules):
    whole = shelves(*range(20))
    fetched, _ = Library(*[Shelf(whole) for _ in range(3)]).fetch(rules, shelves(*EVERYBODY))
    assert fetched.list.root == whole.root


def test_many_are_pulled_in_ranges_from_different_servers(shelves, rules, monkeypatch):
    monkeypatch.setattr("p2p.overlay.fetch.TOGETHER", 10)
    whole = shelves(*EVERYBODY)
    library = Library(*[Shelf(whole) for _ in range(3)])
    fetched, _ = library.fetch(rules)
    assert fetched.list.root == whole.root
    assert [library.count(bodies.Pull, peer) for peer in range(3)] == [2, 1, 1]
    assert library.count(bodies.Get) == 0


def test_what_one_does_not_give_another_does(shelves, rules, monkeypatch):
    monkeypatch.setattr("p2p.overlay.fetch.TOGETHER", 10)
    whole = shelves(*EVERYBODY)
    library = Library(Shelf(whole, gives=()), Shelf(whole, gives=whole.adverts[:10]), Shelf(whole))
    fetched, _ = library.fetch(rules)
    assert fetched.list.root == whole.root


# --- some are wrong ---


def test_what_one_alone_shows_or_withholds_changes_nothing(shelves, rules):
    honest = shelves(*EVERYBODY)
    private = shelves(*EVERYBODY, 90)
    withheld = shelves(*range(2, 40))
    for wrong in (private, withheld):
        for own in (None, shelves(*range(39))):
            for place in range(3):
                lists = [Shelf(honest), Shelf(honest)]
                lists.insert(place, Shelf(wrong))
                fetched, fetch = Library(*lists).fetch(rules, own)
                assert fetched.list.root == honest.root
                assert (fetched.agreeing, fetched.answering) == (2, 3)
                assert not fetch.aside


def test_what_two_have_and_the_third_not_yet_counts(shelves, rules):
    one, two, three = shelves(*range(38)), shelves(*range(39)), shelves(*range(39), 50)
    fetched, _ = Library(Shelf(one), Shelf(two), Shelf(three)).fetch(rules)
    assert fetched.list.root == two.root


def test_who_lacks_or_alone_holds_too_much_is_set_aside_and_another_asked(shelves, rules):
    honest = shelves(*EVERYBODY)
    for wrong in (shelves(*range(30)), shelves(*EVERYBODY, *range(80, 90))):
        library = Library(Shelf(honest), Shelf(wrong), Shelf(honest), Shelf(honest), Gone())
        fetched, fetch = library.fetch(rules)
        assert fetched.list.root == honest.root
        assert names(fetch) == {1}
        assert {peer[0] for peer in fetch.good} == {0, 2, 3}
        assert {peer for peer, _ in library.asked} == {0, 1, 2, 3}


@pytest.mark.parametrize("days", [1, 2])
def test_new_names_told_to_some_servers_only_set_nobody_against_another(shelves, rules, days):
    """Three servers, each of which has heard of another half of 30 names, the honest ones apart."""
    own = shelves(*EVERYBODY) if days == 1 else None
    late = [[100 + n for n in range(30) if (n + place) % 2] for place in range(3)]
    lists = [shelves(*EVERYBODY, *names) for names in late]
    known = {advert.id for advert in shelves(*EVERYBODY).adverts}

    class Dated(Shelf):
        def items(self, number):
            bucket = self.snapshot.bucket(number)
            dated = [Item(entry_of(a), days if a.id in known else 0) for a in bucket]
            return b"".join(map(bodies.pack_item, dated))

    fetched, fetch = Library(*map(Dated, lists)).fetch(rules, own)
    assert not fetch.aside
    assert {advert.id for advert in fetched.list.adverts} >= known


def test_who_withholds_known_nodes_is_set_aside_whatever_is_new(shelves, rules):
    honest, own = shelves(*EVERYBODY, 90, 91), shelves(*EVERYBODY)
    wrong = shelves(*range(30), *range(80, 92))
    fetched, fetch = Library(Shelf(wrong), Shelf(honest), Shelf(honest)).fetch(rules, own)
    assert (fetched.list.root, names(fetch)) == (honest.root, {0})


def test_five_are_asked_at_most(shelves, rules):
    wrong = [Shelf(shelves(*range(80 + 20 * n, 100 + 20 * n))) for n in range(8)]
    library = Library(*wrong)
    outcome, fetch = library.fetch(rules)
    assert isinstance(outcome, DirectorySplit)
    assert {peer for peer, _ in library.asked} == set(range(5))
    assert not fetch.aside


def test_as_many_that_agree_on_another_list_are_a_split(shelves, rules):
    one, two, three = (Shelf(shelves(*range(20 * n, 20 * n + 20))) for n in range(3))
    outcome, _ = Library(one, two, three, one, two).fetch(rules)
    assert isinstance(outcome, DirectorySplit)
    fetched, fetch = Library(one, two, three, one).fetch(rules)
    assert fetched.list.root == one.root
    assert names(fetch) == {1, 2}


def test_a_root_that_its_list_does_not_have_is_found_out(shelves, rules):
    honest, own = shelves(*EVERYBODY), shelves(*range(30))
    liar = Shelf(shelves(*range(35)), root=honest.root)
    outcomes = [Library(liar, Shelf(honest), Shelf(honest)).fetch(rules, own)]
    outcomes.append(Library(Shelf(honest), liar, liar).fetch(rules, own))
    for fetched, fetch in outcomes:
        assert fetched.list.root == honest.root
        assert len(fetch.aside) == len(set(fetch.aside))


def test_who_is_only_busy_is_not_set_aside(shelves, rules):
    honest, own = shelves(*EVERYBODY), shelves(*range(30))
    stingy = Shelf(honest, gives=())
    fetched, fetch = Library(stingy, stingy, Shelf(honest)).fetch(rules, own)
    assert (fetched.list.root, names(fetch)) == (honest.root, set())


def test_who_answers_junk_is_set_aside_and_who_does_not_answer_is_not(shelves, rules):
    honest = shelves(*EVERYBODY)
    good = Shelf(honest)
    fetched, fetch = Library(Junk(), Gone(), good, Refusing(), good).fetch(rules)
    assert (fetched.list.root, names(fetch)) == (honest.root, {0})


@pytest.mark.parametrize("after", range(6))
def test_servers_may_go_at_any_moment(shelves, rules, after):
    honest = shelves(*EVERYBODY)
    for own in (None, shelves(*range(30))):
        library = Library(*[Gone(Shelf(honest), after) for _ in range(3)], *[Shelf(honest)] * 2)
        outcome, fetch = library.fetch(rules, own)
        assert isinstance(outcome, Unreachable) or outcome.list.root == honest.root
        assert not fetch.aside


# --- too few ---


@pytest.mark.parametrize(("least", "fetched"), [(2, False), (1, True)])
def test_one_server_is_believed_in_a_dev_network_only(shelves, rules, least, fetched):
    library = Library(Gone(), Shelf(shelves(*EVERYBODY)), Refusing())
    outcome, _ = library.fetch(rules, least=least)
    assert isinstance(outcome, Fetched if fetched else Unreachable)


def test_two_servers_must_agree_on_all_that_counts(shelves, rules):
    one, two = shelves(*range(40)), shelves(*range(1, 41))
    fetched, _ = Library(Shelf(one), Shelf(two)).fetch(rules)
    assert fetched.list.root == shelves(*range(1, 40)).root


def test_nobody_to_ask_is_nobody_reached(rules):
    outcome, _ = Library().fetch(rules)
    assert isinstance(outcome, Unreachable)


def test_an_empty_list_is_a_list(shelves, rules):
    empty = shelves()
    fetched, _ = Library(*[Shelf(empty)] * 3).fetch(rules)
    assert len(fetched.list) == 0


# --- what even two may not do ---


def test_an_advert_that_the_cut_does_not_allow_is_not_taken(shelves, rules, nodes_once):
    whole = shelves(*range(9))
    late = shelves(20, at=CUT + 5)
    ending = shelves(21, at=CUT - 5, life=14)
    left = shelves(22, kind="left")
    for bad in (late, ending, left):
        both = Snapshot(CUT, [*whole.adverts, *bad.adverts])
        fetched, _ = Library(*[Shelf(both)] * 3).fetch(rules)
        assert fetched.list.root == whole.root


def test_a_list_of_which_too_much_is_kept_back_is_none(shelves, rules):
    whole = shelves(*EVERYBODY)
    stingy = Shelf(whole, gives=whole.adverts[:30])
    outcome, _ = Library(stingy, stingy, stingy).fetch(rules)
    assert isinstance(outcome, Unreachable)
    nearly = Shelf(whole, gives=whole.adverts[:38])
    fetched, _ = Library(nearly, nearly, nearly).fetch(rules)
    assert len(fetched.list) == 38


def test_forged_adverts_are_not_taken(shelves, rules, nodes_once):
    whole = shelves(*range(9))
    good = nodes_once.advert(30)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    both = Snapshot(CUT, [*whole.adverts, adverts.read(forged, CUT, rules)])
    fetched, _ = Library(*[Shelf(both)] * 3).fetch(rules)
    assert fetched.list.root == whole.root
