"""Channels, messages and tasks in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from libs.access import Visibility
from services.collaboration.model import Channel, Message, Task, TaskState

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection, Record

_CHANNEL = "id, title, event, zone, organisations, created_at, created_by"
_TASK = """id, title, instruction, channel, event, zone, sub_order, organisation, assignee, state, due_at, note,
    created_at, done_at, revision, directive"""


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows that somebody may see: by visibility, and what is about no event also by organisation alone."""

    visibility: Visibility
    organisations: Collection[str]

    def clause(self, organisation: str) -> tuple[str, list[object]]:
        """Return an SQL condition and its parameters from $1 on; `organisation` as for Visibility.clause."""
        condition, values = self.visibility.clause(1, zone="zone", organisation=organisation)
        values.append(sorted(self.organisations))
        mine = f"${len(values)}::text[]"
        held = f"organisations && {mine}" if organisation.endswith("[]") else f"{organisation} = ANY({mine})"
        return f"({condition} OR (event = '' AND {held}))", values


async def add_channel(conn: Connection, channel: Channel) -> None:
    await conn.execute(
        """INSERT INTO channels (id, title, event, zone, organisations, joint, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, false, $6, $7)""",
        channel.id, channel.title, channel.event, channel.zone, list(channel.organisations), channel.created_at,
        channel.created_by,
    )  # fmt: skip


async def add_joint_channel(conn: Connection, channel: Channel) -> tuple[Channel, bool]:
    """Open the channel of an event's joint disposal, or let the organisations join the one there is.

    Returns the channel, and whether it was opened just now.
    """
    row = await conn.fetchrow(
        f"""INSERT INTO channels AS c (id, title, event, zone, organisations, joint, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, true, $6, $7)
        ON CONFLICT (event) WHERE joint DO UPDATE SET organisations = c.organisations || ARRAY(
            SELECT o FROM unnest(excluded.organisations) WITH ORDINALITY AS n(o, place)
            WHERE o <> ALL(c.organisations) ORDER BY place)
        RETURNING {_CHANNEL}""",
        channel.id, channel.title, channel.event, channel.zone, list(channel.organisations), channel.created_at,
        channel.created_by,
    )  # fmt: skip
    kept = _channel(row)
    return kept, kept.id == channel.id


async def get_channel(conn: Connection, channel_id: str) -> Channel | None:
    row = await conn.fetchrow(f"SELECT {_CHANNEL} FROM channels WHERE id = $1", channel_id)
    return _channel(row) if row else None


async def list_channels(
    conn: Connection, scope: Scope, event: str, after: tuple[datetime, str] | None, limit: int
) -> list[Channel]:
    """Return the newest channels that may be seen, from behind `after` = (created_at, id) on, at most `limit`."""
    condition, values = scope.clause("organisations[]")
    rows = await _newest(conn, f"SELECT {_CHANNEL} FROM channels", condition, values, {"event": event}, after, limit)
    return [_channel(row) for row in rows]


async def add_message(conn: Connection, channel_id: str, author: str, text: str, now: datetime) -> Message:
    """Write a message behind the last one of the channel, which must be there."""
    sequence = await conn.fetchval(
        "UPDATE channels SET messages = messages + 1 WHERE id = $1 RETURNING messages", channel_id
    )
    message = Message(channel_id, sequence, author, text, now)
    await conn.execute(
        "INSERT INTO messages (channel, sequence, author, text, time) VALUES ($1, $2, $3, $4, $5)",
        message.channel,
        message.sequence,
        message.author,
        message.text,
        message.time,
    )
    return message


async def list_messages(conn: Connection, channel_id: str, after_sequence: int, limit: int) -> list[Message]:
    """Return the messages behind a number, oldest first, at most `limit`."""
    rows = await conn.fetch(
        """SELECT channel, sequence, author, text, time FROM messages
        WHERE channel = $1 AND sequence > $2 ORDER BY sequence LIMIT $3""",
        channel_id,
        after_sequence,
        limit,
    )
    return [Message(**dict(row)) for row in rows]


async def add_task(conn: Connection, task: Task) -> bool:
    """Keep a new task. Returns False when there is one for the same directive, or sub-order of the event."""
    added = await conn.fetchval(
        """INSERT INTO tasks (id, title, instruction, channel, event, zone, sub_order, organisation, state, due_at,
            created_at, revision, directive)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT DO NOTHING RETURNING true""",
        task.id, task.title, task.instruction, task.channel, task.event, task.zone, task.sub_order, task.organisation,
        task.state, task.due_at, task.created_at, task.revision, task.directive,
    )  # fmt: skip
    return added is not None


async def get_task(conn: Connection, task_id: str, *, lock: bool = False) -> Task | None:
    """Return a task; with `lock` held until the end of the transaction."""
    row = await conn.fetchrow(f"SELECT {_TASK} FROM tasks WHERE id = $1 {'FOR UPDATE' if lock else ''}", task_id)
    return _task(row) if row else None


async def task_of_directive(conn: Connection, directive: str) -> Task | None:
    """Return, locked, the task that a directive became; None when it became none."""
    row = await conn.fetchrow(f"SELECT {_TASK} FROM tasks WHERE directive = $1 FOR UPDATE", directive)
    return _task(row) if row else None


async def list_tasks(
    conn: Connection,
    scope: Scope,
    state: TaskState | None,
    event: str,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Task]:
    """Return the newest tasks that may be seen, from behind `after` = (created_at, id) on, at most `limit`."""
    condition, values = scope.clause("organisation")
    narrow = {"state": state or "", "event": event}
    rows = await _newest(conn, f"SELECT {_TASK} FROM tasks", condition, values, narrow, after, limit)
    return [_task(row) for row in rows]


async def update_task(conn: Connection, task: Task) -> None:
    """Write what may change of a task that is locked."""
    await conn.execute(
        "UPDATE tasks SET assignee = $2, state = $3, note = $4, done_at = $5, revision = $6 WHERE id = $1",
        task.id,
        task.assignee,
        task.state,
        task.note,
        task.done_at,
        task.revision,
    )


async def _newest(
    conn: Connection,
    select: str,
    condition: str,
    values: list[object],
    narrow: dict[str, str],
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Record]:
    conditions = [condition]

    def parameter(value: object) -> str:
        values.append(value)
        return f"${len(values)}"

    conditions += [f"{column} = {parameter(value)}" for column, value in narrow.items() if value]
    if after is not None:
        time, last_id = parameter(after[0]), parameter(after[1])
        conditions.append(f"(created_at, id) < ({time}::timestamptz, {last_id}::text)")
    return await conn.fetch(
        f"{select} WHERE {' AND '.join(conditions)} ORDER BY created_at DESC, id DESC LIMIT {parameter(limit)}",
        *values,
    )


def _channel(row: Any) -> Channel:
    return Channel(**{**dict(row), "organisations": tuple(row["organisations"])})


def _task(row: Record) -> Task:
    return Task(**{**dict(row), "state": TaskState(row["state"])})
