"""The unit of work: a change, its facts, its audit entries and the answer to its request commit together."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, cast

import asyncpg

from libs import db
from libs.backoff import Backoff
from libs.errors import Away, Reason, Stale
from libs.idempotency import REQUEST_LOG, Memory
from libs.pending import Change, Pending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    from google.protobuf.message import Message

    from libs.canonical import JsonValue
    from libs.clock import Clock
    from libs.db import Connection, Pool
    from quintet.fact.v1.fact_pb2 import Fact

TRANSACTION_ATTEMPTS = 5
RETRY_DELAY_FIRST_S = 0.05
RETRY_DELAY_MAX_S = 1.0

T = TypeVar("T")
M = TypeVar("M", bound="Message")
Isolation = Literal["read_committed", "repeatable_read", "serializable"]
Finish: TypeAlias = "Callable[[Connection, T], Awaitable[None]]"


class Tx:
    """One attempt at a unit of work. Nothing remote happens inside: the whole function may run again."""

    def __init__(
        self, conn: Connection, now: datetime, zone: str, pending: Pending, after: list[Callable[[], None]]
    ) -> None:
        """Made by Transactions. `now` is the clock at the start of the attempt, UTC; `zone` that of the node."""
        self.conn = conn
        self.now = now
        self.zone = zone
        self._pending = pending
        self._after = after

    def publish(self, message: Message, *, zone: str, key: str) -> None:
        """State a fact about `zone`. Facts of one `key`, a resource name, are applied in the order of their statement.

        That order is the order of commits: lock the resource's row before changing it. Raises Exhausted above
        FACT_BYTES_MAX or FACTS_PER_TRANSACTION_MAX.
        """
        self._pending.publish(message, zone=zone, key=key)

    def forward(self, fact: Fact) -> None:
        """Put a fact from elsewhere on the bus of this node unchanged. Raises like `publish`."""
        self._pending.forward(fact)

    def write(self, sql: str, *values: object, checked: str = "") -> None:
        """Make a change in the same statement as its facts and audit entries, behind everything else of this work.

        `sql` is one or more parts of a WITH, each with a name of its own: "moved AS (UPDATE ... RETURNING id)", with
        `values` for $1 and so on. When `checked`, the name of a part, returns no row, nothing is written and the work
        begins anew: that is how a change says which revision of a row it was thought for. The same `sql` twice takes a
        statement more, which work that commits as one statement does not have.
        """
        self._pending.write(Change(sql, values, checked))

    def audit(self, action: str, resource: str, /, **detail: JsonValue) -> None:
        """Record who did what to which resource; `detail` holds no secrets. Raises Exhausted above AUDIT_BYTES_MAX."""
        self._pending.audit(action, resource, detail)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Have something called in this process once the change can be seen: for hints, which may get lost, only."""
        self._after.append(call)


@dataclass
class _LostError(Exception):
    """The connection was lost before COMMIT was sent: PostgreSQL rolls back."""

    cause: BaseException


@dataclass
class _UnknownError(Exception):
    """The connection was lost while COMMIT was under way: nobody knows."""

    cause: BaseException


class Transactions:
    """Opens the transactions of one service."""

    def __init__(self, pool: Pool, clock: Clock, part: str, node: str, zone: str = "") -> None:
        """`zone` is the code of the zone that the node is authoritative for; the node's id where that is not known."""
        self.pool = pool
        self.clock = clock
        self.part = part
        self.node = node
        self.zone = zone or node

    async def run(self, fn: Callable[[Tx], Awaitable[T]], *, isolation: Isolation = "read_committed") -> T:
        """Run `fn` in a transaction and commit, again from the start after a serialisation failure, a deadlock or the
        loss of the connection before the commit, TRANSACTION_ATTEMPTS times in all.

        Raises Stale when concurrent changes win each time, and Away when the database is away or slow. After an Away
        with metadata outcome=unknown the change may have been made. Errors of `fn` roll back and pass.
        """
        after: list[Callable[[], None]] = []
        result = await self._retry(lambda conn: self._work(conn, fn, None, after), isolation, repeatable=False)
        _call_all(after)
        return result

    async def read(self, fn: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `fn` in a read-only transaction in which all statements see the same state. Raises Away."""
        return await self._retry(fn, "repeatable_read", readonly=True, repeatable=True)

    async def look(self, fn: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `fn`, which asks the server for one thing only, without the two round trips of a transaction around it.

        One statement sees one state anyway. Raises Away.
        """
        return await self._retry(fn, None, readonly=True, repeatable=True)

    async def once(self, fn: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `fn`, each of whose statements is a transaction of its own: without the round trips of one around them.

        They must be such as may come twice, as they do when an answer was lost. Raises like `run`, except that no
        outcome is unknown.
        """
        return await self._retry(fn, None, repeatable=True)

    async def mutate(self, request: Message, response_type: type[M], fn: Callable[[Tx], Awaitable[M]]) -> M:
        """Run `fn` once per (caller, method, request.request_id): a repeated request gets the first answer again.

        Answers are kept for REQUEST_LOG_KEEP_S, without their secrets. Without a request_id every call counts. When
        `fn` records no audit entry, one is written with the method as action and the `name` in the response, else in
        the request, as resource. Raises AlreadyExists(REQUEST_ID_REUSED) when the id came with another request, else
        like `run`.
        """
        memory = Memory.of(request)
        after: list[Callable[[], None]] = []

        async def once(tx: Tx) -> M:
            if memory is not None and (answer := await memory.recall(tx.conn)) is not None:
                return response_type.FromString(answer)
            return await _answered(tx, request, memory, fn)

        # With a request_id a lost commit is no riddle: the second attempt finds the answer of the first, or does it.
        response = await self._retry(
            lambda conn: self._work(conn, once, memory, after), "read_committed", repeatable=memory is not None
        )
        _call_all(after)
        return response

    async def mutate_at_once(self, request: Message, response_type: type[M], fn: Callable[[Tx], Awaitable[M]]) -> M:
        """Like `mutate`, for work that changes something by `Tx.write` alone: it commits as one statement.

        That saves the round trips of a transaction and its locks. What `fn` reads is not locked: what the change
        depends on stands in its `checked` part. Other statements than SELECT raise RuntimeError.
        """
        memory = Memory.of(request)
        after: list[Callable[[], None]] = []

        async def once(conn: Connection) -> tuple[M, Pending | None]:
            if memory is not None:
                memory.answer = None
                if (answer := await memory.look(conn)) is not None:
                    return response_type.FromString(answer), None
            after.clear()  # of the attempt before
            now = self.clock.now()
            pending = Pending(self.node, self.part, now)
            tx = Tx(cast("Connection", _Reading(conn)), now, self.zone, pending, after)
            response = await _answered(tx, request, memory, fn)
            after.append(partial(self.pool.wake_duties, pending.concerned()))
            return response, pending

        async def finish(conn: Connection, done: tuple[M, Pending | None]) -> None:
            if done[1] is not None:
                with _repeated():
                    await done[1].flush(conn, memory, self.pool.duties, alone=True)

        response, _ = await self._retry(once, None, repeatable=memory is not None, finish=finish)
        _call_all(after)
        return response

    async def _work(
        self, conn: Connection, fn: Callable[[Tx], Awaitable[T]], memory: Memory | None, after: list[Callable[[], None]]
    ) -> T:
        now = self.clock.now()
        pending = Pending(self.node, self.part, now)
        if memory is not None:
            memory.answer = None
        after.clear()  # of the attempt before
        result = await fn(Tx(conn, now, self.zone, pending, after))
        await pending.flush(conn, memory, self.pool.duties)
        after.append(partial(self.pool.wake_duties, pending.concerned()))
        return result

    async def _retry(
        self,
        body: Callable[[Connection], Awaitable[T]],
        isolation: Isolation | None,
        *,
        readonly: bool = False,
        repeatable: bool,
        finish: Finish[T] | None = None,
    ) -> T:
        backoff = Backoff(RETRY_DELAY_FIRST_S, RETRY_DELAY_MAX_S)
        for attempts_left in range(TRANSACTION_ATTEMPTS - 1, -1, -1):
            try:
                return await self._attempt(body, isolation, finish, readonly=readonly)
            except db.RETRYABLE_ERRORS as error:
                if not attempts_left:
                    raise Stale(Reason.CONFLICT, "concurrent changes to the same data") from error
            except _LostError as error:
                if not attempts_left:
                    raise db.away(error.cause) from error.cause
            except _UnknownError as error:
                if not (attempts_left and repeatable):
                    raise _unknown() from error.cause
            except Exception as error:
                # What is left of the driver's errors is either a fault in a statement, which passes, or slowness.
                if db.is_slow(error):
                    raise db.away(error) from error
                raise
            await backoff.wait()
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self,
        body: Callable[[Connection], Awaitable[T]],
        isolation: Isolation | None,
        finish: Finish[T] | None,
        *,
        readonly: bool,
    ) -> T:
        async with AsyncExitStack() as stack:
            try:
                conn = await stack.enter_async_context(self.pool.acquire())
            except Away as error:
                if error.reason == Reason.DEPENDENCY_AWAY:
                    raise _LostError(error) from error
                raise
            transaction = conn.transaction(isolation=isolation, readonly=readonly) if isolation else nullcontext()
            return await _transact(conn, transaction, body, finish)


async def _transact(
    conn: Connection,
    transaction: AbstractAsyncContextManager[object],
    body: Callable[[Connection], Awaitable[T]],
    finish: Finish[T] | None,
) -> T:
    """Run `body` and commit, or roll back when anything at all goes wrong, cancellation included.

    Where there is no transaction `finish` is the one statement that commits. Says with _LostError and _UnknownError
    what became of a transaction whose connection was lost.
    """
    committing = False
    try:
        async with transaction:
            result = await body(conn)
            committing = True
            if finish is not None:
                await finish(conn, result)
    except Exception as error:
        if db.is_lost(conn) or (db.is_away(error) and not db.is_slow(error)):
            # Whatever the driver or the body made of it: the connection is what failed.
            raise (_UnknownError if committing else _LostError)(error) from error
        if committing and isinstance(error, asyncpg.InterfaceError | OSError):
            raise _UnknownError(error) from error  # no answer to the commit, or none in time
        raise
    return result


async def _answered(tx: Tx, request: Message, memory: Memory | None, fn: Callable[[Tx], Awaitable[M]]) -> M:
    """Do the work of a request and keep the answer, with an audit entry if there is none."""
    response = await fn(tx)
    tx._pending.audit_by_default(request, response)  # noqa: SLF001 - the two halves of one thing
    if memory is not None:
        memory.keep(response)
    return response


@contextmanager
def _repeated() -> Iterator[None]:
    """Have the work begin anew when the same request was answered by another meanwhile: then it finds that answer."""
    try:
        yield
    except asyncpg.UniqueViolationError as violation:
        if violation.table_name != REQUEST_LOG:
            raise
        raise asyncpg.SerializationError("the same request was answered meanwhile") from violation


class _Reading:
    """A connection outside of a transaction, where each change would be a commit of its own: for reading only."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def fetch(self, query: str, *values: object) -> object:
        return await self._conn.fetch(_only_reads(query), *values)

    async def fetchrow(self, query: str, *values: object) -> object:
        return await self._conn.fetchrow(_only_reads(query), *values)

    async def fetchval(self, query: str, *values: object) -> object:
        return await self._conn.fetchval(_only_reads(query), *values)


def _only_reads(query: str) -> str:
    if not query.lstrip().startswith("SELECT"):
        raise RuntimeError("work that commits as one statement changes things by Tx.write only")
    return query


def _call_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _unknown() -> Away:
    text = "the database went away during the commit; the change may have been made"
    return Away(Reason.DEPENDENCY_AWAY, text, dependency="postgres", outcome="unknown")
