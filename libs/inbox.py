"""Taking in the facts of the bus: each takes effect once, those of one key in the order in which they were stated.

A batch is one transaction, which also marks its facts as taken. When it fails, each fact gets a transaction of its
own. A fact that fails then is put in a table to wait for its next attempt, and later facts of its key wait behind it,
so that the stream moves on. What keeps failing for a reason of its own becomes a dead letter, and its key moves on too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, TypeAlias
from uuid import NAMESPACE_URL, UUID, uuid5

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from prometheus_client import Counter, Gauge

from libs import context, db, inbox_store, telemetry
from libs.backoff import Backoff, delay
from libs.bus import Bus, subject_of
from libs.duty import Duty, on_duty
from libs.errors import Away, DomainError
from libs.inbox_store import Taken, Waiting
from libs.pace import Pace
from libs.subscription import Subscription
from libs.tx import Transactions, Tx
from quintet.fact.v1.fact_pb2 import Fact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from libs.subscription import Received

Handler: TypeAlias = Callable[[Tx, Fact, Message], Awaitable[None]]
BatchHandler: TypeAlias = Callable[[Tx, list[Fact]], Awaitable[None]]

INBOX_BATCH_FACTS = 100
# For a handler that takes a batch as a whole: its statements cost the same for many.
INBOX_BATCH_FACTS_WHOLE = 500
FETCH_TIMEOUT_S = 2.0
# After so many failures that are the fact's own fault, or the handler's, the fact is given up.
MAX_DELIVERIES = 5
# How often a part that has too much of its own waiting is asked again.
HELD_POLL_S = 0.25
WAITING_DELAY_FIRST_S = 0.2
WAITING_DELAY_MAX_S = 30.0
WAITING_BATCH_FACTS = 100
WAITING_POLL_S = 5.0
RECOVERY_DELAY_FIRST_S = 0.1
RECOVERY_DELAY_MAX_S = 10.0
# Failures with these codes are not the fact's fault: it waits for as long as they last.
_TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}

TAKEN = Counter("quintet_inbox_facts", "Facts taken in, applied or not.", ["part"])
FAILED = Counter("quintet_inbox_failures", "Attempts at a fact that failed.", ["part"])
DEAD = Counter("quintet_inbox_dead", "Facts that were given up.", ["part"])
BEHIND = Gauge("quintet_inbox_behind", "Facts in the stream that are still to be taken in.", ["part"])
WAITING = Gauge("quintet_inbox_waiting", "Facts taken in that wait for another attempt.", ["part"])
WAITING_AGE = Gauge("quintet_inbox_waiting_age_seconds", "Age of the longest waiting fact.", ["part"])

log = structlog.get_logger()


class FactConsumer:
    """Reads the bus for one part. Replicas stand by: one reads at a time, for the order's sake."""

    def __init__(
        self,
        transactions: Transactions,
        bus: Bus,
        part: str,
        handlers: Mapping[type[Message], Handler] | None = None,
        *,
        handle_all: BatchHandler | None = None,
        admits: Callable[[], bool] | None = None,
    ) -> None:
        """Give either `handlers`, one for each type of fact, or `handle_all`, which gets every fact of the node.

        Both run inside the transaction and write through its Tx only. `handle_all` gets the new facts of a batch in
        order, at most INBOX_BATCH_FACTS_WHOLE, and after a failure single ones. Raises ValueError for none or both.
        While `admits` answers False nothing more is taken from the bus: it waits there, in its order.
        """
        if (handle_all is None) == (not handlers):
            raise ValueError("give handlers or handle_all")
        self._transactions = transactions
        self._part = part
        self._handlers = {kind.DESCRIPTOR.full_name: (kind, handle) for kind, handle in (handlers or {}).items()}
        self._handle_all = handle_all
        self._batch = INBOX_BATCH_FACTS_WHOLE if handle_all is not None else INBOX_BATCH_FACTS
        self._admits = admits
        self._subscription = Subscription(bus, part, [subject_of(name) for name in self._handlers])
        self._waiting_at = 0.0  # of the monotonic clock: when to look for waiting facts

    async def run(self) -> None:
        """Take in facts until cancelled, through interruptions of the bus and the database."""
        backoff = Backoff(RECOVERY_DELAY_FIRST_S, RECOVERY_DELAY_MAX_S)
        while True:
            try:
                async with on_duty(self._transactions.pool, "inbox") as duty, aclosing(self._subscription):
                    await self._serve(duty, backoff)
            except Exception as error:
                if not _is_transient(error):
                    log.exception("inbox.failed", part=self._part)
                else:
                    log.warning("inbox.interrupted", part=self._part, error=repr(error))
            await backoff.wait()

    async def _serve(self, duty: Duty, backoff: Backoff) -> None:
        self._waiting_at = 0.0
        pace = Pace()
        while True:
            duty.check()
            if time.monotonic() >= self._waiting_at:
                await self._try_waiting()
            if self._admits is not None and not self._admits():
                await asyncio.sleep(HELD_POLL_S)
                continue
            patience_s = min(FETCH_TIMEOUT_S, max(0.01, self._waiting_at - time.monotonic()))
            received = await self._subscription.fetch(self._batch, patience_s)
            if received:
                await self._take_in(received)
                await self._subscription.ack()
                BEHIND.labels(self._part).set(self._subscription.behind)
                if not self._subscription.behind:
                    await pace.rest(len(received))
            backoff.reset()

    # ------------------------------------------------------------------------------------------------- from the stream

    async def _take_in(self, received: Sequence[Received]) -> None:
        """Apply or store every fact durably. Raises when that is not possible now."""
        facts = [_parse(item) for item in received]
        try:
            await self._apply(facts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the facts are tried one by one
            log.info("inbox.batch_failed", part=self._part, facts=len(facts), error=repr(error))
            for taken, fact in facts:
                try:
                    await self._apply([(taken, fact)])
                except Exception as own_error:  # noqa: BLE001 - looked at by _set_aside
                    await self._set_aside(taken, own_error)
        TAKEN.labels(self._part).inc(len(facts))

    async def _apply(self, facts: Sequence[tuple[Taken, Fact | None]]) -> None:
        """Apply the facts that are new, in one transaction; queue those whose keys wait."""

        async def work(tx: Tx) -> None:
            new, held_keys = await inbox_store.claim(tx.conn, [taken for taken, _ in facts])
            ready: list[tuple[Taken, Fact | None]] = []
            held: list[Taken] = []
            for taken, fact in facts:
                if taken.fact_id in new:
                    new.discard(taken.fact_id)  # a repetition within the batch is not new
                    if taken.key in held_keys:
                        held.append(taken)
                    else:
                        ready.append((taken, fact))
            if held:
                await inbox_store.wait_behind(tx.conn, held)
            if ready:
                await self._handle(tx, [_readable(fact) for _, fact in ready])

        await self._transactions.run(work)

    async def _handle(self, tx: Tx, facts: list[Fact]) -> None:
        if self._handle_all is not None:
            with self._acting(facts[0] if len(facts) == 1 else None):
                await self._handle_all(tx, facts)
            return
        for fact in facts:
            if entry := self._handlers.get(fact.type):
                kind, handle = entry
                with self._acting(fact):
                    await handle(tx, fact, kind.FromString(fact.data))

    @contextmanager
    def _acting(self, fact: Fact | None) -> Iterator[None]:
        """Act as this service, in the trace of the fact; many at once have no trace in common."""
        token = context.caller_subject.set(f"services/{self._part}")
        parent = telemetry.extract(fact.traceparent) if fact else ""
        try:
            with telemetry.span(
                f"fact {fact.type}" if fact else "facts", kind=telemetry.SpanKind.CONSUMER, parent=parent
            ):
                yield
        finally:
            context.caller_subject.reset(token)

    async def _set_aside(self, taken: Taken, error: Exception) -> None:
        """Keep a fact that failed: to wait, or, when there is no use in that, as a dead letter."""
        FAILED.labels(self._part).inc()
        log.warning("inbox.fact_failed", part=self._part, **_about(taken), error=repr(error))

        async def work(tx: Tx) -> None:
            new, _ = await inbox_store.claim(tx.conn, [taken])
            if not new:
                return  # applied after all: only the answer to its commit was lost
            if isinstance(error, DecodeError):
                await self._bury(tx, taken, 1, error)
            else:
                await inbox_store.wait_after(tx.conn, taken, error=repr(error), delay_s=WAITING_DELAY_FIRST_S)

        await self._transactions.run(work)
        self._waiting_at = min(self._waiting_at, time.monotonic() + WAITING_DELAY_FIRST_S)

    # ----------------------------------------------------------------------------------------------- from the waiting

    async def _try_waiting(self) -> None:
        """Try the facts whose time has come, and say when to look again."""
        budget = WAITING_BATCH_FACTS
        while budget > 0:
            heads = await self._transactions.read(lambda conn: inbox_store.due(conn, WAITING_BATCH_FACTS))
            if not heads:
                break
            budget -= len(heads)
            for head in heads:
                await self._try_again(head)
        facts, age_s, next_s = await self._transactions.read(inbox_store.waiting)
        WAITING.labels(self._part).set(facts)
        WAITING_AGE.labels(self._part).set(age_s)
        # The poll finds what an operator has raised from the dead letters.
        pause_s = WAITING_POLL_S if next_s is None else max(0.0, next_s)
        self._waiting_at = time.monotonic() + min(WAITING_POLL_S, pause_s)

    async def _try_again(self, head: Waiting) -> None:
        async def work(tx: Tx) -> None:
            if await inbox_store.finish(tx.conn, head.id):
                await self._handle(tx, [Fact.FromString(head.taken.fact)])

        try:
            await self._transactions.run(work)
        except Exception as error:  # noqa: BLE001 - looked at by _failed_again
            await self._failed_again(head, error)

    async def _failed_again(self, head: Waiting, error: Exception) -> None:
        attempts = head.attempts + 1
        FAILED.labels(self._part).inc()

        async def work(tx: Tx) -> None:
            if attempts >= MAX_DELIVERIES and not _is_transient(error):
                await self._bury(tx, head.taken, attempts, error)
            else:
                delay_s = delay(head.attempts, WAITING_DELAY_FIRST_S, WAITING_DELAY_MAX_S)
                await inbox_store.postpone(tx.conn, head.id, error=repr(error), delay_s=delay_s)

        await self._transactions.run(work)

    async def _bury(self, tx: Tx, taken: Taken, attempts: int, error: Exception) -> None:
        await inbox_store.bury(tx.conn, taken, attempts=attempts, error=repr(error))
        DEAD.labels(self._part).inc()
        log.error("inbox.fact_dead", part=self._part, **_about(taken), attempts=attempts, error=repr(error))


def _parse(received: Received) -> tuple[Taken, Fact | None]:
    """Return the fact and how it is stored; None for bytes that are no fact."""
    try:
        fact = Fact.FromString(received.data)
        fact_id = UUID(fact.id)
    except (DecodeError, ValueError):
        # Nobody but our relay should write to the stream. Kept as a dead letter under an id made from its place.
        fact_id = uuid5(NAMESPACE_URL, f"facts/{received.stream_sequence}")
        return Taken(fact_id, "", str(fact_id), received.data), None
    return Taken(fact_id, fact.type, fact.key or str(fact_id), received.data), fact


def _readable(fact: Fact | None) -> Fact:
    if fact is None:
        raise DecodeError("not a fact, or a fact without an id")
    return fact


def _about(taken: Taken) -> dict[str, str]:
    return {"fact": str(taken.fact_id), "type": taken.type, "key": taken.key}


def _is_transient(error: BaseException) -> bool:
    """Tell whether trying again later may help without anybody changing anything."""
    if isinstance(error, DomainError):
        return isinstance(error, Away) or error.code in _TRANSIENT
    return db.is_away(error) or db.is_slow(error)


def in_turn(*parts: Mapping[type[Message], Handler]) -> dict[type[Message], Handler]:
    """Return one set of handlers of several: a fact that more than one hears of goes to all of them, in their order."""
    hearing: dict[type[Message], list[Handler]] = {}
    for part in parts:
        for kind, handler in part.items():
            hearing.setdefault(kind, []).append(handler)
    return {kind: found[0] if len(found) == 1 else _each(found) for kind, found in hearing.items()}


def _each(found: Sequence[Handler]) -> Handler:
    async def handle(tx: Tx, fact: Fact, message: Message) -> None:
        for handler in found:
            await handler(tx, fact, message)

    return handle
