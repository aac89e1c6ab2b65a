"""A worker's answers on their way out: as fast as the circuit takes them and the asker pays.

Where either is slower than the model, the model is held. Nothing here decides who is served.
"""

from collections.abc import Callable
from typing import Final, final

from inference.engine import base as engine
from inference.meter import Earning
from inference.order import Order, State, receipt_of, refusal_of
from inference.orders import Orders
from inference.pieces import CELL, Outbox
from inference.protocol import Abort, Billed, Progress, Refusal, Refuse, Tick
from inference.quoting import least_step
from inference.schedule import Desk
from inference.service import Service
from inference.serving_effects import Bill, GoOn, Hold, Keep, Settle
from ledger import tariff
from p2p import codec
from p2p.core import Handle
from p2p.identity import Identity

CLOSE_WAIT: Final = 60.0
"""seconds for what is unsent when the model is through"""

UNPAID_WAIT: Final = 20.0
"""seconds a job may be held because its next tick does not come"""

LAST_TICK_WAIT: Final = 10.0
"""seconds after the receipt for the tick that pays its end"""

STALL: Final = 60.0
"""seconds a job may be held because its asker takes nothing"""

BEAT: Final = 5.0
"""seconds between two words on a prompt that is being read"""

SLOT: Final = 0.04
"""seconds between two chunks of an answer, unless one is full: a cell costs each relay the same
whether it carries one token or twenty, and nobody reads faster"""

LOOK_AGAIN: Final = 0.05
LOOK_RARELY: Final = 0.4
"""seconds until a circuit without room is looked at again: at first, and after a second of it"""


@final
class Answering:
    """The states RUNNING and CLOSING."""

    def __init__(self, identity: Identity, service: Service, orders: Orders, desk: Desk) -> None:
        self._identity = identity
        self._service = service
        self._orders = orders
        self._desk = desk
        self._ahead = least_step(service)
        self.answered = self.tokens = 0

    # --- what the engine says ---

    def begun(self, order: Order, begun: engine.Begun) -> None:
        """The prompt is being read."""
        order.read = begun.prompt, begun.cached
        self.progress(order, begun.cached)

    def progress(self, order: Order, done: int) -> None:
        """Tell how much of the prompt is read, now and every few seconds until the answer."""
        order.done = min(done, sum(order.read))
        if order.beat is not None:
            order.beat.cancel()
        order.beat = self._at(BEAT, lambda: self._beat(order))
        prompt, cached = order.read
        data = codec.frame(Progress(prompt=prompt, cached=cached, done=order.done).encode())
        if self._orders.free(order) >= len(data):
            self._orders.say(order, data)
            order.told = True
        if order.state is State.RUNNING:
            self._hold_or_go_on(order)

    def piece(self, order: Order, piece: engine.Piece) -> None:
        """The next tokens."""
        order.outbox.put(piece)
        if order.done < sum(order.read):
            order.done = sum(order.read)
            self._ask_for_reading(order)
        self.flush(order)

    def close(self, order: Order, ending: engine.Finished | engine.Failed) -> None:
        """The engine is through with a job: its slot is free, what is unsent leaves first."""
        self._desk.leave(order.token)
        order.ending = ending
        self._orders.enter(order, State.CLOSING, CLOSE_WAIT, self._orders.silent)
        self.flush(order)

    def break_off(self, order: Order) -> None:
        """End an answer where it is: what was said counts, what was not is free."""
        prompt, cached, completion, reasoning = order.count
        usage = engine.Usage(
            prompt=prompt, cached=cached, completion=completion, reasoning=reasoning
        )
        order.outbox = Outbox()
        self.close(order, engine.Finished(reason=engine.Reason.PAUSED, usage=usage))

    # --- what the asker pays ---

    def paid(self, order: Order, tick: Tick) -> None:
        """A tick. Raises `BadPreimage`."""
        earning = order.earning
        assert earning is not None
        if not earning.take(tick):
            return
        lock = earning.locked.lock_id
        self._orders.out(Keep(lock, earning.index, earning.newest))
        earned = order.earned
        if self._is_time_to_settle(earning, earned):
            earning.settled, earning.settled_at = earned, self._orders.now
            self._orders.out(Settle(lock, final=False, ticks=earned))
        if order.owed is not None:
            order.owed.cancel()
            order.owed = None
        if order.state in (State.RUNNING, State.CLOSING):
            self._go_on(order)

    def _is_time_to_settle(self, earning: Earning, earned: int) -> bool:
        late = self._orders.now - earning.settled_at >= self._service.settle_every
        news = earned - earning.settled
        return news > 0 and (late or news >= self._service.settle_ticks)

    def _go_on(self, order: Order) -> None:
        earning = order.earning
        assert earning is not None
        if order.billed is not None:
            if not earning.owed(order.billed.tokens):
                self._orders.end(order)
        else:
            self._ask_for_reading(order)
            self.flush(order)

    def _ask_for_reading(self, order: Order) -> None:
        """Each report of the prompt earns a step: while more than one is unpaid, say another."""
        if not order.sent and self._is_unpaid(order):
            self.progress(order, order.done)

    # --- out ---

    def flush(self, order: Order) -> None:
        """Say what there is room and payment for; hold the job while its asker is too slow."""
        while self._is_time(order) and self._orders.free(order) >= CELL and self._is_told(order):
            limit = self._limit(order)
            if order.outbox.blocked(limit):
                break
            self._say_chunk(order, limit)
        if order.state is State.RUNNING:
            self._hold_or_go_on(order)
        if self._is_unpaid(order):
            self._await_tick(order)
        elif len(order.outbox):
            self._look_again(order)
        elif order.ending is not None:
            self._finish(order, order.ending)

    def _is_time(self, order: Order) -> bool:
        """Whether something waits that need not wait for more to go with it."""
        slot_is_over = self._orders.now >= order.said_at + SLOT
        is_last = order.ending is not None
        return bool(len(order.outbox)) and (slot_is_over or is_last or order.outbox.fills_cell)

    def _is_told(self, order: Order) -> bool:
        """Who pays must know the prompt's tokens before it sees any of the answer."""
        if order.earning is not None and not order.told:
            self.progress(order, order.done)
        return order.earning is None or order.told

    def _say_chunk(self, order: Order, limit: int | None) -> None:
        order.looks, order.said_at = 0, self._orders.now
        chunk = order.outbox.take(limit)
        self._orders.say(order, codec.frame(chunk.encode()))
        order.sent += len(chunk.ids)
        order.reasoned += len(chunk.ids) if chunk.channel == engine.Channel.REASONING else 0
        order.answer += chunk.text.encode()

    def _limit(self, order: Order) -> int | None:
        """Tokens that may leave now; None: any number."""
        if order.earning is None:
            return None
        return order.earning.affordable(order.count, reasoning=order.outbox.reasons)

    def _is_unpaid(self, order: Order) -> bool:
        """Whether nothing goes on before a tick comes."""
        earning = order.earning
        if earning is None:
            return False
        if len(order.outbox):
            return order.outbox.blocked(self._limit(order))
        prompt, cached = order.read
        done, total = order.done, prompt + cached
        if order.state is not State.RUNNING or done >= total:
            return False
        upto = min(total, done + self._ahead)
        return earning.owes_reading(max(0, upto - cached), min(cached, upto))

    def _hold_or_go_on(self, order: Order) -> None:
        is_unpaid = self._is_unpaid(order)
        if order.held_since is None and (order.outbox.too_full or is_unpaid):
            order.held_since = self._orders.now
            self._orders.out(Hold(order.token))
        elif order.held_since is not None and order.outbox.half_empty and not is_unpaid:
            order.held_since = None
            self._orders.out(GoOn(order.token))
        if is_unpaid:
            self._await_tick(order)

    def _await_tick(self, order: Order) -> None:
        if order.owed is None:
            order.owed = self._at(UNPAID_WAIT, lambda: self._unpaid(order))

    def _unpaid(self, order: Order) -> None:
        order.owed = None
        self._orders.refuse(order, Refusal(Refuse.UNPAID, order.sent))

    def _look_again(self, order: Order) -> None:
        if order.look is not None:
            return
        seconds = order.said_at + SLOT - self._orders.now
        if seconds <= 0:
            order.looks += 1
            seconds = LOOK_AGAIN if order.looks * LOOK_AGAIN <= 1.0 else LOOK_RARELY
        order.look = self._at(seconds, lambda: self._looked(order))

    def _looked(self, order: Order) -> None:
        order.look = None
        if order.held_since is not None and self._orders.now - order.held_since > STALL:
            self._orders.give_up(order, Abort.SILENT)
        else:
            self.flush(order)

    def _beat(self, order: Order) -> None:
        """A long step of the model is no silence."""
        order.beat = None
        if order.state is State.RUNNING and not order.sent and not len(order.outbox):
            self.progress(order, order.done)

    def _at(self, seconds: float, then: Callable[[], None]) -> Handle:
        return self._orders.deadlines.at(self._orders.now + seconds, then)

    # --- the end ---

    def _finish(self, order: Order, ending: engine.Finished | engine.Failed) -> None:
        if self._orders.free(order) < CELL:
            self._look_again(order)
        elif isinstance(ending, engine.Failed):
            self._orders.refuse(order, refusal_of(ending, sent=order.sent))
        elif order.billed is None:
            self._bill(order, ending)

    def _bill(self, order: Order, finished: engine.Finished) -> None:
        receipt = receipt_of(
            order, finished, self._service, self._identity.id, now=self._orders.now
        )
        signed = tariff.sign(receipt, self._identity)
        billed = Billed(receipt=signed, numerics=self._service.numerics)
        self._orders.say(order, codec.frame(billed.encode()))
        self.answered += 1
        self.tokens += order.sent
        order.billed = receipt
        if order.earning is not None:
            self._orders.out(Bill(order.earning.locked.lock_id, signed))
        if order.earning is not None and order.earning.owed(receipt.tokens):
            self._orders.enter(order, State.CLOSING, LAST_TICK_WAIT, self._orders.end)
        else:
            self._orders.end(order)
