"""The statements of one life of an event, written down as the service sends them, and sent again by plain asyncpg.

The management part is built here as its wiring builds it, over a connection that writes down what it is asked. What
makes a life its own (the event's name and row, the ids of facts) is replaced each time; everything else, the sizes of
facts and audit entries included, stays as it was.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from libs.access import Caller, Grant, Grants, Kind, Scope, acting_as
from libs.clock import SystemClock
from libs.db import Pool
from libs.host import Host
from libs.node_key import NodeKeys
from libs.tx import Transactions
from libs.zone_directory import ZoneDirectory
from quintet.common.v1.common_pb2 import Place
from quintet.management.v1 import management_pb2 as pb
from services.management.wiring import PART

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from libs.config import NodeConfig
    from libs.db import Connection

ORGANISATION = "organisations/bench"
# After OpenEvent, which files it: the actions of the seven-step loop with what each is given.
STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("file", {"reason": "a matter for us"}),
    ("dispatch", {"reason": "as routed", "organisation": ORGANISATION}),
    ("dispose", {"reason": "done as asked"}),
    ("feed_back", {"reason": "done", "answer": "It was dealt with. 已处理。"}),
    ("verify", {"reason": "seen on the spot"}),
    ("evaluate", {"reason": "well done"}),
)
_MAY = ("open", "read", "advance", "file", "dispatch", "dispose", "verify", "evaluate")


def opening(zone: str, event_type: str) -> pb.OpenEventRequest:
    """Return a report of something that is like nothing else, so that it is not merged into another life."""
    return pb.OpenEventRequest(
        parent=f"zones/{zone}",
        type=event_type,
        description="路灯不亮，晚上很黑 The street light by the school is out, it is dark at night.",
        place=Place(address=f"{secrets.token_hex(6)} Street"),
    )


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with its values; `answers` is true for the one that answers with the new event's row."""

    query: str
    values: tuple[object, ...]
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """The statements of one call, within BEGIN and COMMIT when the service sends these."""

    statements: tuple[Statement, ...]
    enclosed: bool


@dataclass(frozen=True, slots=True)
class Script:
    """The work of a life, and what is its own in it: parts of names, and the row of its event."""

    works: tuple[Work, ...]
    own: tuple[str, ...]
    row: int


@dataclass(slots=True)
class _Log:
    """What was asked of a connection while it was lent, with the answers."""

    asked: list[tuple[Statement, object]] = field(default_factory=list)
    enclosed: bool = False


@dataclass(slots=True)
class _Writer:
    """A connection that writes down what it is asked."""

    conn: Any
    log: _Log = field(default_factory=_Log)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.conn, name)
        self.log.enclosed |= name == "transaction"
        if name not in {"execute", "fetch", "fetchrow", "fetchval"}:
            return found

        async def ask(query: str, *values: object, **more: Any) -> object:
            answer = await found(query, *values, **more)
            self.log.asked.append((Statement(query, values), answer))
            return answer

        return ask


@dataclass(slots=True)
class _WritingPool:
    """Stands for the pool of the service: both of its duties are held, as in a node of one process."""

    pool: Pool
    logs: list[_Log] = field(default_factory=list)
    duties: dict[str, object] = field(default_factory=lambda: {"outbox": None, "audit": None})

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[_Writer]:
        async with self.pool.acquire() as conn:
            writer = _Writer(conn)
            self.logs.append(writer.log)
            yield writer

    def wake_duties(self, _jobs: object) -> None:
        """Wake nobody: the node's own process does it by and by."""


async def record(pool: Pool, config: NodeConfig, event_type: str) -> Script:
    """Lead one life of an event of a node and return the statements of it."""
    writing = _WritingPool(pool)
    zone = config.node.zone
    unused: Any = None
    host = Host(
        part="management",
        config=config,
        transactions=Transactions(cast("Pool", writing), SystemClock(), "management", config.node.id, zone),
        bus=unused,
        clock=SystemClock(),
        zones=ZoneDirectory(unused, zone),
        signer=unused,
        node_keys=NodeKeys(config.secrets),
    )
    servicer: Any = (await PART.build(host)).servicers[0][1]
    grants = [Grant(f"management.events.{verb}", Scope.ZONE, zone) for verb in _MAY]
    caller = Caller("people/bench", Kind.PERSON, Grants("people/bench", grants, host.zones.tree))
    with acting_as(caller):
        # The first one reads what the service keeps in memory from then on.
        await _lead(servicer, opening(zone, event_type))
        writing.logs.clear()
        asked = opening(zone, event_type)
        event = await _lead(servicer, asked)
    (row,) = {
        answer for log in writing.logs for statement, answer in log.asked if "INSERT INTO events" in statement.query
    }  # fmt: skip
    works = tuple(
        Work(tuple(replace(statement, answers=answer == row) for statement, answer in log.asked), log.enclosed)
        for log in writing.logs
    )
    own = event.name.rpartition("-")[2], asked.place.address.partition(" ")[0]
    return Script(works, own, cast("int", row))


async def _lead(servicer: Any, asked: pb.OpenEventRequest) -> pb.Event:
    event: pb.Event = (await servicer.OpenEvent(asked, None)).event
    for action, more in STEPS:
        request = pb.AdvanceEventRequest(name=event.name, action=action, etag=event.revision, **more)
        event = (await servicer.AdvanceEvent(request, None)).event
    return event


async def replay(conn: Connection, script: Script) -> None:
    """Lead the life of a script again, as another event."""
    names = {word: secrets.token_hex(len(word))[: len(word)] for word in script.own}
    row = script.row
    for work in script.works:
        async with conn.transaction() if work.enclosed else nullcontext():
            for statement in work.statements:
                values = [_other(value, names, script.row, row) for value in statement.values]
                answer = await conn.fetch(statement.query, *values)
                if statement.answers:
                    row = answer[0][0]


def _other(value: object, names: Mapping[str, str], before: int, row: int) -> object:
    """Return a value of the recorded life as that of another one. What replaces a name is as long as that."""
    if isinstance(value, UUID):
        return uuid4()
    if isinstance(value, list):
        return [_other(each, names, before, row) for each in value]
    if isinstance(value, str):
        for name, other in names.items():
            value = value.replace(name, other)
        return value
    if isinstance(value, bytes):
        for name, other in names.items():
            value = value.replace(name.encode(), other.encode())
        return value
    return row if type(value) is int and value == before else value
