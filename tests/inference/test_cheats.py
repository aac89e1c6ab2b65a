"""Whoever cheats in a paid answer gains a tick, or a step of the prompt, and never more.

One side is the core, the other a script that is honest up to a moment and then is not: a thousand
times each, with prompts, prices, ticks and moments drawn from a seed.
"""

from hashlib import sha256

import pytest

from inference import body, protocol
from inference.asking import AskCore, State
from inference.asking_effects import Collect, Open, Release, Reserve, Upload
from inference.asking_effects import Say as SayTick
from inference.body import Question
from inference.engine.base import (
    Begun,
    ChatMessage,
    Finished,
    Piece,
    Prefilled,
    Prepared,
    Reason,
    Usage,
)
from inference.engine.base import Prompt as EnginePrompt
from inference.market import Known, Memory
from inference.meter import Pace, Spending, pace_of
from inference.protocol import (
    PLAIN,
    Billed,
    Chunk,
    Offer,
    Pay,
    Progress,
    Prompt,
    Refusal,
    Refuse,
    Tick,
    Want,
    Work,
)
from inference.request import AskRequest, Policy
from inference.service import Service
from inference.serving import Place, WorkerCore
from inference.serving_effects import (
    Cancel,
    Generate,
    GoOn,
    Hold,
    Keep,
    Lock,
    Prepare,
    Say,
    Settle,
)
from ledger import tariff
from ledger import tick as ticks
from ledger.money import ZERO, Nano
from ledger.payment import PayTerms
from ledger.tariff import Count, Prices, cost
from p2p import codec
from p2p.core import Command, step
from p2p.entropy import choice, seeded
from p2p.identity import Identity
from simulations.purse import FINAL_DELAY, FakeMint, FakePurse, FakeTill

NOW = 1_795_000_000.0
MODEL = b"m" * 32
WORKER = Identity(b"\0" * 31 + b"\1")
MINT = Identity(b"M" * 32)
PLENTY = Nano(200_000_000)
CHEATS = 1_000
BATCH = 512


def prices_of(entropy):
    """Dear and cheap, with classes that cost nothing among them."""
    prompt = choice(entropy, (0, 1_000, 20_000_000, 5_000_000_000))
    completion = choice(entropy, (1_000, 20_000_000, 5_000_000_000))
    reasoning = choice(entropy, (completion, completion, 0, 2 * completion))
    return Prices(prompt, prompt // choice(entropy, (1, 2, 10)), completion, reasoning)


def unframed(data):
    unframer = codec.Unframer(protocol.MAX_UPLOAD)
    unframer.feed(data)
    return list(unframer)


# --- an asker that cheats ---


class Shop:
    """A worker's core with an engine that computes a batch more before it hears of a `Hold`."""

    def __init__(self, prices, entropy):
        self.now = NOW
        self.service = Service(
            identity=MODEL,
            numerics=b"numerics",
            context=16_384,
            slots=1,
            prompt_rate=450.0,
            answer_rate=10.0 * (1 + entropy.below(30)),
            prices=prices,
            batch=BATCH,
        )
        self.mint = FakeMint(MINT)
        self.till = FakeTill(self.mint, WORKER.id, lambda: self.now)
        self.core = WorkerCore(
            WORKER, self.service, seeded(1), lambda circuit: 1 << 20, self.till.mints
        )
        self.heard = []
        self.job = None
        self.held = False
        self.read = self.cached = self.written = 0
        self.in_flight = False
        self.over = False

    def do(self, run):
        _, events = step(self.core, self.now, [Command("test", run)], [])
        for effect in events:
            self._handle(effect)
        return events

    def _handle(self, effect):
        match effect:
            case Lock(token=token, spend=spend, session=session, tick=tick):
                result = self.till.take(spend, session, tick)
                self.do(lambda core, now: core.locked(now, token, result))
            case Keep(lock_id=lock_id, index=index, preimage=preimage):
                self.till.keep(lock_id, index, preimage)
            case Settle(lock_id=lock_id, final=final, ticks=ticks):
                self.till.settle(lock_id, final=final, ticks=ticks)
                self.over = self.over or final
            case Prepare(token=token):
                prepared = Prepared(tokens=tuple(range(self.prompt_tokens)))
                self.do(lambda core, now: core.prepared(now, token, prepared))
            case Generate(job=job):
                self.job = job
            case Cancel():
                self.job = None
            case Hold():
                self.held = True
            case GoOn():
                self.held = False
            case Say(data=data):
                self.heard += [protocol.read_worker(message) for message in unframed(data)]
            case _:
                pass

    def ask(self, tokens, cached, max_tokens):
        """A want; the offer that answers."""
        self.prompt_tokens, self.cached = tokens, cached
        want = Want(
            work=Work.CHAT,
            identity=MODEL,
            nonce=b"n" * 16,
            size_class=4,
            max_tokens=max_tokens,
            mints=(MINT.id,),
        )
        request = PLAIN + want.encode()
        (accept,) = self.do(lambda core, now: core.incoming(now, 1, request))
        signed = accept.reply.removeprefix(PLAIN)
        return protocol.read_offer(signed, WORKER.public, want.encode()), signed

    def hears(self, *messages):
        data = b"".join(codec.frame(message.encode()) for message in messages)
        self.do(lambda core, now: core.receive(now, Place(1, 1), data))

    def compute(self, entropy):
        """The engine goes on: by a batch of the prompt, or some tokens."""
        job = self.job
        if job is None or (self.held and not self.in_flight):
            self.now += 1.0
            self.do(lambda core, now: None)
            return
        self.in_flight = not self.held
        if self.read == 0:
            begun = Begun(prompt=self.prompt_tokens - self.cached, cached=self.cached)
            self.read = max(self.cached, 1)
            self.do(lambda core, now: core.generated(now, job.id, begun))
        elif self.read < self.prompt_tokens:
            self.read = min(self.prompt_tokens, self.read + BATCH)
            if self.read < self.prompt_tokens:
                told = Prefilled(done=self.read)
                self.do(lambda core, now: core.generated(now, job.id, told))
        else:
            self._write(job, min(1 + entropy.below(40), job.max_tokens - self.written))

    def _write(self, job, count):
        ids = tuple(range(count))
        piece = Piece(first=self.written, ids=ids, text="x" * count)
        self.written += count
        self.do(lambda core, now: core.generated(now, job.id, piece))
        if self.job is not None and self.written == job.max_tokens:
            self.job = None
            usage = Usage(
                prompt=self.prompt_tokens - self.cached,
                cached=self.cached,
                completion=self.written,
            )
            done = Finished(reason=Reason.LENGTH, usage=usage)
            self.do(lambda core, now: core.generated(now, job.id, done))

    @property
    def given(self):
        """What was computed of the prompt, and said of the answer.

        What was cached had been paid when it was computed; it counts once tokens follow from it.
        """
        said = sum(len(m.ids) for m in self.heard if isinstance(m, Chunk))
        cached = min(self.cached, self.read)
        if not said:
            return cost(Count(prompt=self.read - cached), self.service.prices)
        count = Count(prompt=self.read - cached, cached=cached, completion=said)
        return cost(count, self.service.prices)


CUSTOMERS = ("silent", "one less", "garbage", "another's", "replays", "resets", "lost", "too far")


def cheat_a_worker(seed):
    """A worker's loss, its tick and its step, when an asker goes bad at some moment."""
    entropy = seeded(seed)
    shop = Shop(prices_of(entropy), entropy)
    tokens = 1 + entropy.below(choice(entropy, (40, 600, 6_000)))
    cached = choice(entropy, (0, 0, entropy.below(tokens)))
    max_tokens = 1 + entropy.below(250)
    offer, signed = shop.ask(tokens, cached, max_tokens)
    pace = pace_of(offer)
    terms = PayTerms(
        mints=(MINT.id,),
        payee=WORKER.id,
        session=protocol.session_of(signed),
        tick=pace.tick,
        ticks=pace.most(tokens, max_tokens),
        expiry=int(NOW) + 600,
    )
    purse = FakePurse(shop.mint, Nano(2**62), entropy)
    payment = purse.take(terms)
    spending = Spending(pace, payment, max_tokens)
    said = body.write(
        Question(prompt=EnginePrompt(messages=(ChatMessage(role="user", content="hi"),)))
    )
    prompt = Prompt(
        nonce=b"s" * 16,
        date=None,
        deadline_ms=500_000,
        settings={0: max_tokens},
        body=said,
    )
    shop.hears(Pay(payment.spend), prompt)
    customer = Customer(shop, spending, choice(entropy, CUSTOMERS), entropy)
    turns = entropy.below(12)
    for turn in range(200):
        if shop.over:
            break
        shop.compute(entropy)
        customer.pays(bad=turn >= turns)
    else:
        raise AssertionError("no end")
    return shop, pace


class Customer:
    """Pays what is due, until it is bad."""

    def __init__(self, shop, spending, how, entropy):
        self.shop, self.spending, self.how, self.entropy = shop, spending, how, entropy
        self.count = Count()
        self.due = 0
        self.taken = 0
        self.gone = False

    def pays(self, *, bad):
        for message in self.shop.heard[self.taken :]:
            match message:
                case Progress(prompt=prompt, cached=cached, done=done):
                    self.count = self.count._replace(prompt=prompt, cached=cached)
                    self.due = self.spending.told(prompt, cached, done)
                case Chunk(ids=ids):
                    written = self.count.completion + len(ids)
                    self.count = self.count._replace(completion=written)
                    self.due = self.spending.due(self.count)
                case _:
                    pass
        self.taken = len(self.shop.heard)
        if not bad:
            tick = self.spending.reveal(self.due)
            if tick is not None:
                self.shop.hears(tick)
        elif not self.gone:
            self._cheat()

    def _cheat(self):
        due, chain = self.due, self.spending.payment.chain
        match self.how:
            case "one less":
                if due - 1 > self.spending.revealed:
                    self.shop.hears(self.spending.reveal(due - 1))
                return
            case "garbage":
                self.shop.hears(Tick(min(due + 1, chain.n), self.entropy.token(32)))
            case "another's":
                self.shop.hears(Tick(min(due + 1, chain.n), chain.reveal(due)))
            case "replays":
                self.shop.hears(Tick(self.spending.revealed, chain.reveal(self.spending.revealed)))
            case "resets":
                self.shop.do(lambda core, now: core.reset(now, 1, 1))
            case "lost":
                self.shop.do(lambda core, now: core.lost(now, 1))
            case "too far":
                self.shop.hears(Tick(60_000, chain.reveal(chain.n)))
            case _:
                pass
        self.gone = True


SEEDS = pytest.mark.parametrize(
    "seeds", [range(200), pytest.param(range(200, CHEATS), marks=pytest.mark.slow)], ids=len
)


@SEEDS
def test_an_asker_that_cheats_gains_a_tick_or_a_step(seeds):
    for seed in seeds:
        shop, pace = cheat_a_worker(seed)
        earned = shop.mint.earned.get(WORKER.id, ZERO)
        assert earned == shop.core.statistics().earned
        begun = any(isinstance(message, Chunk) for message in shop.heard)
        p0 = pace.prompt(shop.prompt_tokens - shop.cached, shop.cached)
        paid = earned.value // pace.tick.value
        bound = pace.tick if begun and paid >= p0 else pace.tick * pace.g
        assert shop.given <= earned + bound, seed
        sizes = shop.core.sizes()
        assert not any(n for name, n in sizes.items() if name != "circuits"), (seed, sizes)


# --- a worker that cheats ---


class Counter:
    """An asker's core before a worker that is a script."""

    def __init__(self, entry, prices, entropy, max_tokens):
        self.now = NOW
        self.mint = FakeMint(MINT)
        self.purse = FakePurse(self.mint, PLENTY * 1_000_000, entropy)
        policy = Policy(
            known=(Known(base="fake", quant="f0", file=b"f" * 32, identity=MODEL),),
            entropy=entropy,
            memory=Memory(),
            max_price=PLENTY * 1_000_000,
            min_rate=0,
        )
        question = (ChatMessage(role="user", content="x" * (3 + entropy.below(9_000))),)
        request = AskRequest(messages=question, max_tokens=max_tokens)
        self.core = AskCore(request, policy, b"a" * 32)
        self.entry, self.prices = entry, prices
        self.spend = self.upload = None
        self.ticks = []
        self.collected = []
        self.do(lambda core, now: core.start(now, self.purse.mints()))
        self.do(lambda core, now: core.listed(now, [entry]))

    def do(self, run=lambda core, now: None):
        _, events = step(self.core, self.now, [Command("test", run)], [])
        for effect in events:
            self._handle(effect)

    def _handle(self, effect):
        match effect:
            case Open():
                self.open = effect
                path = [bytes([n]) * 32 for n in (101, 102, 103)] + [effect.worker]
                self.do(lambda core, now: core.opening(now, effect.attempt, path))
            case Reserve(attempt=attempt, terms=terms):
                self.payment = self.purse.take(terms)
                self.do(lambda core, now: core.reserved(now, attempt, self.payment))
            case Upload(attempt=attempt, data=data):
                self.pay, self.prompt = map(protocol.read_asker, unframed(data))
                self.do(lambda core, now: core.uploaded(now, attempt))
            case SayTick(attempt=attempt, data=data):
                self.ticks += [protocol.read_asker(message) for message in unframed(data)]
                self.do(lambda core, now: core.said(now, attempt))
            case Collect(payment=payment, locked=locked, revealed=revealed, owed=owed):
                self.purse.collect(payment, locked=locked, revealed=revealed, owed=owed)
                self.collected.append((locked, revealed))
            case Release(payment=payment):
                self.purse.release(payment)
            case _:
                pass

    def offers(self, pace):
        want = self.open.request.removeprefix(PLAIN)
        offer = Offer(
            want=sha256(want).digest(),
            identity=MODEL,
            numerics=b"numerics",
            prices=pace.prices,
            tick_tokens=pace.k,
            step_ticks=pace.g,
            tick=pace.tick.value,
            mints=(MINT.id,),
            ahead=0,
            wait_s=0,
            context=16_384,
            prompt_rate=450,
            answer_rate=140,
            nonce=b"n" * 16,
        )
        reply = PLAIN + offer.sign(WORKER)
        self.do(lambda core, now: core.opened(now, self.open.attempt, reply))

    def hears(self, *messages):
        data = b"".join(codec.frame(message.encode()) for message in messages)
        self.do(lambda core, now: core.receive(now, self.open.attempt, data))

    @property
    def over(self):
        return self.core.state is State.DONE


def pace_of_plan(prices):
    """As an honest worker would offer it."""
    plan = tariff.plan(prices, 16_384, 1, answer_rate=80.0, prompt_rate=450.0, wait=0.5)
    pace = Pace(prices, plan.k, plan.tick, plan.g)
    return pace._replace(g=max(plan.g, 1 + pace.prompt(2 * BATCH, 0)))


WORKERS = ("silent", "lies", "refuses", "gone", "short receipt", "no lock", "never locks")


def cheat_an_asker(seed, entry):
    """What an asker paid and got, when a worker goes bad at some moment."""
    entropy = seeded(seed)
    prices = prices_of(entropy)
    max_tokens = 1 + entropy.below(250)
    asker = Counter(entry, prices, entropy, max_tokens)
    pace = pace_of_plan(prices)
    asker.offers(pace)
    how = choice(entropy, WORKERS)
    turns = entropy.below(12)
    got = Count()
    tokens = 1 + entropy.below(len(asker.prompt.body))
    cached = choice(entropy, (0, 0, entropy.below(tokens)))
    if how not in ("no lock", "never locks"):
        locked = asker.mint.lock(NOW, WORKER.id, asker.pay.body)
        asker.hears(Pay(locked.receipt))
    elif how == "never locks":
        asker.hears(Progress(prompt=tokens, cached=0, done=0))
        turns = 0
    done, written = cached, 0
    for turn in range(0 if how == "no lock" else turns):
        if asker.over:
            break
        if done < tokens or not turn:
            asker.hears(Progress(prompt=tokens - cached, cached=cached, done=done))
        if done < tokens:
            done = min(tokens, done + BATCH)
        elif written < max_tokens:
            count = min(1 + entropy.below(40), max_tokens - written)
            asker.hears(Chunk(first=written, ids=tuple(range(count)), text="x" * count))
            written += count
    got = Count(prompt=max(0, done - cached), cached=min(cached, done), completion=written)
    goes_bad(asker, how, written, entropy)
    asker.now += 400.0
    asker.do()
    return asker, pace, got


def goes_bad(asker, how, written, entropy):
    if asker.over:
        return
    match how:
        case "lies":
            asker.hears(Chunk(first=written + 1, ids=(1,), text="?"))
        case "refuses":
            asker.hears(Refusal(choice(entropy, tuple(Refuse))))
        case "gone":
            asker.do(lambda core, now: core.reset(now, asker.open.attempt, 0))
        case "short receipt":
            asker.hears(Billed(receipt=b"r" * 200, numerics=b"numerics"))
        case _:
            pass


@SEEDS
def test_a_worker_that_cheats_gains_a_tick_or_a_step(entry, seeds):
    shop = entry(1, context=16_384, prices=(1, 1))
    assert shop.id == WORKER.id
    for seed in seeds:
        asker, pace, got = cheat_an_asker(seed, shop)
        assert asker.over
        assert len(asker.collected) == 1
        locked, revealed = asker.collected[0]
        paid = pace.tick * revealed
        worth = pace.tick * pace.prompt(got.prompt, got.cached) + pace.spent(got)
        bound = pace.tick if got.completion else pace.tick * pace.g
        assert paid <= worth + bound, seed
        assert revealed == (asker.ticks[-1].index if asker.ticks else 0)
        assert locked or not revealed
        held = asker.mint.held.get(asker.payment.lock_id)
        if held is not None:
            newest = asker.ticks[-1] if asker.ticks else Tick(0, asker.payment.chain.root)
            asker.mint.settle(asker.payment.lock_id, newest.index, newest.preimage, final=False)
            asker.mint.expire(asker.payment.terms.expiry + FINAL_DELAY)
        asker.purse.fetch()
        assert asker.purse.open == []
        assert asker.purse.balance + paid == PLENTY * 1_000_000


def test_a_tick_too_many_on_either_side_is_found(entry, monkeypatch):
    spends, pays = ticks.may_spend, ticks.answer_due
    monkeypatch.setattr(ticks, "may_spend", lambda p, p0, tick: spends(p, p0, tick) + tick)
    with pytest.raises(AssertionError):
        test_an_asker_that_cheats_gains_a_tick_or_a_step(range(200))
    monkeypatch.setattr(
        ticks, "answer_due", lambda p0, tick, n, spent: min(n, 1 + pays(p0, tick, n, spent))
    )
    with pytest.raises(AssertionError):
        test_a_worker_that_cheats_gains_a_tick_or_a_step(entry, range(200))
