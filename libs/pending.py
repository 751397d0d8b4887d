"""What a transaction will write besides its own changes: facts, audit entries, the answer to remember."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from libs import audit_chain, canonical, context
from libs.bus import FACT_BYTES_MAX, subject_of
from libs.errors import Exhausted, Reason
from libs.idempotency import method_of, resource_of
from libs.ids import new_id
from quintet.fact.v1.fact_pb2 import Fact

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from datetime import datetime

    from google.protobuf.message import Message

    from libs.canonical import JsonValue
    from libs.db import Connection
    from libs.idempotency import Memory

FACTS_PER_TRANSACTION_MAX = 10_000
AUDIT_ENTRIES_PER_TRANSACTION_MAX = 10_000
AUDIT_BYTES_MAX = 64 * 1024

# One statement for everything. The rows keep their order, and with it the order of their ids.
_FLUSH = """
stated AS (
    INSERT INTO outbox (fact_id, subject, key, fact)
    SELECT fact_id, subject, key, fact
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) WITH ORDINALITY
        AS f(fact_id, subject, key, fact, place)
    ORDER BY place
), recorded AS (
    INSERT INTO audit_entries (time, actor, action, resource, detail, trace_id)
    SELECT $5, actor, action, resource, detail, trace_id
    FROM unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::text[]) WITH ORDINALITY
        AS e(actor, action, resource, detail, trace_id, place)
    ORDER BY place
)"""
# The claim of the request was made at the start of its transaction; work that is one statement makes it here.
_REMEMBER = """, remembered AS (
    UPDATE request_log SET response = $11 WHERE subject = $12 AND method = $13 AND request_id = $14
)"""
_CLAIM = """, remembered AS (
    INSERT INTO request_log (response, subject, method, request_id, request_hash) VALUES ($11, $12, $13, $14, $15)
)"""
# Wakes relay and sealer in another process (see libs.duty.channel). Only then: commits that notify take turns.
_NOTIFY = "pg_notify('quintet_' || current_schema(), '')"
_PARAMETER = re.compile(r"\$(\d+)")
RELAY_DUTY = "outbox"
SEALER_DUTY = "audit"


class _Stated(NamedTuple):
    fact_id: UUID
    subject: str
    key: str
    fact: bytes


class _Entry(NamedTuple):
    actor: str
    action: str
    resource: str
    detail: str
    trace_id: str


class Change(NamedTuple):
    """A change to make in the statement of the flush; see `Tx.write`."""

    sql: str
    values: tuple[object, ...]
    checked: str


class Pending:
    """Collected during one attempt, written by `flush` just before the commit."""

    def __init__(self, node: str, part: str, now: datetime) -> None:
        self._node = node
        self._part = part
        self._now = now
        self._time = Timestamp()
        self._time.FromDatetime(now)
        self._facts: list[_Stated] = []
        self._entries: list[_Entry] = []
        self._changes: list[Change] = []

    def write(self, change: Change) -> None:
        self._changes.append(change)

    def publish(self, message: Message, *, zone: str, key: str) -> None:
        if not (zone and key):
            raise ValueError("a fact needs a zone and a key")
        self.forward(
            Fact(
                id=new_id(),
                type=message.DESCRIPTOR.full_name,
                node=self._node,
                zone=zone,
                key=key,
                time=self._time,
                data=message.SerializeToString(),
                traceparent=context.traceparent.get(),
            )
        )

    def forward(self, fact: Fact) -> None:
        if len(self._facts) >= FACTS_PER_TRANSACTION_MAX:
            raise Exhausted(Reason.QUOTA, f"more than {FACTS_PER_TRANSACTION_MAX} facts in one transaction")
        data = fact.SerializeToString()
        if len(data) > FACT_BYTES_MAX:
            raise Exhausted(Reason.MESSAGE_TOO_LARGE, f"a fact of {len(data)} bytes; {FACT_BYTES_MAX} are allowed")
        self._facts.append(_Stated(UUID(fact.id), subject_of(fact.type), fact.key, data))

    def audit(self, action: str, resource: str, detail: Mapping[str, JsonValue]) -> None:
        if len(self._entries) >= AUDIT_ENTRIES_PER_TRANSACTION_MAX:
            text = f"more than {AUDIT_ENTRIES_PER_TRANSACTION_MAX} audit entries in one transaction"
            raise Exhausted(Reason.QUOTA, text)
        text = audit_chain.stored(canonical.storable(detail))
        if len(text.encode()) > AUDIT_BYTES_MAX:
            raise Exhausted(Reason.MESSAGE_TOO_LARGE, f"audit detail is larger than {AUDIT_BYTES_MAX} bytes")
        # When no call is being served the service acts on its own account.
        actor = context.caller_subject.get() or f"services/{self._part}"
        self._entries.append(_Entry(actor, action, resource, text, _trace_id()))

    def audit_by_default(self, request: Message, response: Message) -> None:
        """Record the call itself when nothing else was recorded."""
        if not self._entries:
            self.audit(method_of(request), resource_of(response) or resource_of(request), {})

    def concerned(self) -> list[str]:
        """Return the duties that have work once this is committed."""
        return [RELAY_DUTY] * bool(self._facts) + [SEALER_DUTY] * bool(self._entries)

    async def flush(
        self, conn: Connection, memory: Memory | None, duties: Container[str], *, alone: bool = False
    ) -> None:
        """Write everything in one round trip; none when there is nothing. `duties` are those this process holds.

        `alone` says that this is the only statement of the work, which has not claimed its request before. Raises
        RuntimeError when one statement will not do.
        """
        remember = memory is not None and memory.answer is not None
        if not (self._facts or self._entries or self._changes or remember):
            return
        values: list[object] = [
            *_columns(self._facts, len(_Stated._fields)),
            self._now,
            *_columns(self._entries, len(_Entry._fields)),
        ]
        flush = _FLUSH
        if memory is not None and remember:
            flush += _CLAIM if alone else _REMEMBER
            values += [memory.answer, memory.subject, memory.method, memory.request_id]
            values += [memory.request_hash] if alone else []
        *before, last = _statements(self._changes)
        if before and alone:
            raise RuntimeError("the same change twice is not one statement")
        for changes in before:
            parts, more, asked = _parts(changes, 0)
            await conn.execute(f"WITH {', '.join(parts)} SELECT {', '.join(asked)}", *more)
        parts, more, asked = _parts(last, len(values))
        if not all(duty in duties for duty in self.concerned()):
            asked.append(_NOTIFY)
        await conn.execute(f"WITH {', '.join([*parts, flush])} SELECT {', '.join(asked)}", *values, *more)


def _statements(changes: list[Change]) -> list[list[Change]]:
    """Split changes so that none is twice in one statement, where its parts would have the same names."""
    found: list[list[Change]] = [[]]
    for change in changes:
        if any(other.sql == change.sql for other in found[-1]):
            found.append([])
        found[-1].append(change)
    return found


def _parts(changes: list[Change], behind: int) -> tuple[list[str], list[object], list[str]]:
    """Return the parts of a statement that make changes, their values, and what is asked of the parts."""
    parts: list[str] = []
    values: list[object] = []
    for change in changes:
        parts.append(_behind(change.sql, behind + len(values)))
        values += change.values
    return parts, values, [f"unchanged(EXISTS (SELECT FROM {each.checked}))" for each in changes if each.checked]


@cache
def _behind(sql: str, count: int) -> str:
    """Return SQL whose parameters come behind so many others."""
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + count}", sql)


def _columns(rows: list[_Stated] | list[_Entry], width: int) -> list[list[object]]:
    return [[row[column] for row in rows] for column in range(width)]


def _trace_id() -> str:
    """Return the second field of a W3C traceparent, 32 hex digits, or nothing."""
    fields = context.traceparent.get().split("-")
    return fields[1] if len(fields) == 4 else ""  # noqa: PLR2004 - version, trace id, parent id, flags
