"""From the outbox of a service to the bus: in order, nothing lost, whatever stops in between."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Gauge

from libs import db
from libs.backoff import Backoff
from libs.bus import Bus, Outgoing
from libs.duty import Duty, on_duty
from libs.errors import Away
from libs.pace import Pace
from libs.pending import RELAY_DUTY
from libs.publisher import Ack

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTBOX_BATCH_ROWS = 500
OUTBOX_BATCH_BYTES = 8 * 1024 * 1024
# Notifications wake the relay; the poll finds what was committed while nobody listened.
OUTBOX_POLL_S = 2.0
RETRY_DELAY_FIRST_S = 0.1
RETRY_DELAY_MAX_S = 10.0
BACKLOG_MEASURE_S = 10.0
# Counting further would cost more than knowing is worth.
BACKLOG_COUNT_MAX = 10_000

PUBLISHED = Counter("quintet_outbox_published", "Facts stored by the bus.", ["part"])
FAILURES = Counter("quintet_outbox_failures", "Facts that the bus did not acknowledge, to be tried again.", ["part"])
BACKLOG = Gauge("quintet_outbox_backlog", f"Facts not yet on the bus, up to {BACKLOG_COUNT_MAX}.", ["part"])
BACKLOG_AGE = Gauge("quintet_outbox_backlog_age_seconds", "Age of the oldest fact not yet on the bus.", ["part"])

# What the bus has goes, and what comes next is read. The first row comes in any case, others as long as they fit.
_NEXT = """WITH gone AS (DELETE FROM outbox WHERE id = ANY($3::bigint[]))
SELECT id, fact_id, subject, key, fact FROM (
    SELECT *, sum(octet_length(fact)) OVER (ORDER BY id) - octet_length(fact) AS before
    FROM (
        SELECT * FROM (SELECT * FROM outbox ORDER BY id LIMIT $1 + cardinality($3::bigint[])) AS first
        WHERE NOT EXISTS (SELECT FROM unnest($3::bigint[]) AS gone (id) WHERE gone.id = first.id)
        ORDER BY id LIMIT $1
    ) AS next
) AS measured WHERE before < $2 ORDER BY id"""
# What the bus has may be read again after a crash: it is published again, and dropped where it is known.
_FORGETFULLY = "SET synchronous_commit = off"

log = structlog.get_logger()


class OutboxRelay:
    """Publishes the outbox of one part. Replicas stand by: one publishes at a time, for the order's sake."""

    def __init__(self, pool: db.Pool, bus: Bus, part: str) -> None:
        self._pool = pool
        self._bus = bus
        self._part = part
        self._measure_at = 0.0  # of the monotonic clock

    async def run(self) -> None:
        """Publish until cancelled, through interruptions of the bus and the database."""
        backoff = Backoff(RETRY_DELAY_FIRST_S, RETRY_DELAY_MAX_S)
        while True:
            try:
                async with on_duty(self._pool, RELAY_DUTY, listen=True) as duty:
                    await self._serve(duty, backoff)
            except Exception as error:
                if isinstance(error, Away) or db.is_away(error):
                    log.warning("outbox.interrupted", part=self._part, error=repr(error))
                else:
                    log.exception("outbox.failed", part=self._part)
            await backoff.wait()

    async def _serve(self, duty: Duty, backoff: Backoff) -> None:
        await duty.conn.execute(_FORGETFULLY)
        stored: list[int] = []
        pace = Pace()
        while True:
            duty.check()
            rows = await duty.conn.fetch(_NEXT, OUTBOX_BATCH_ROWS, OUTBOX_BATCH_BYTES, stored)
            try:
                stored = await self._publish(rows)
            except Away:
                stored = []
            PUBLISHED.labels(self._part).inc(len(stored))
            await self._measure(duty)
            if len(stored) < len(rows):
                failed = len(rows) - len(stored)
                FAILURES.labels(self._part).inc(failed)
                log.warning("outbox.bus_refused", part=self._part, facts=failed)
                await backoff.wait()
                continue
            backoff.reset()
            if not rows:
                await duty.wait(OUTBOX_POLL_S)
            elif len(rows) < OUTBOX_BATCH_ROWS:
                await pace.rest(len(rows))

    async def _publish(self, rows: Sequence[db.Record]) -> list[int]:
        """Publish rows and return the ids of those that the bus has stored.

        Normally the bus stores them as a whole. It refuses to when it has some of them already, from an attempt whose
        answer was lost. Then a fact is only sent once the one before it with the same key is stored: of several on the
        way an earlier one may fail and a later one arrive. So the rows go out in rounds, in each at most one of a key;
        after a failure the later rounds have to wait. The bus drops what it has already (by Nats-Msg-Id), the inboxes
        the rest.
        """
        if len(rows) > 1 and await self._bus.publish_batch([_outgoing(row) for row in rows]):
            return [row["id"] for row in rows]
        stored: list[int] = []
        for round_ in _rounds(rows):
            results = await self._bus.publish_all([_outgoing(row) for row in round_])
            acknowledged = [row["id"] for row, result in zip(round_, results, strict=True) if isinstance(result, Ack)]
            stored += acknowledged
            if len(acknowledged) < len(round_):
                break
        return stored

    async def _measure(self, duty: Duty) -> None:
        if time.monotonic() < self._measure_at:
            return
        self._measure_at = time.monotonic() + BACKLOG_MEASURE_S
        row = await duty.conn.fetchrow(
            """SELECT (SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) AS counted) AS facts,
            (SELECT extract(epoch FROM clock_timestamp() - created_at)::float8
                FROM outbox ORDER BY id LIMIT 1) AS age_s""",
            BACKLOG_COUNT_MAX,
        )
        if row is not None:
            BACKLOG.labels(self._part).set(row["facts"])
            BACKLOG_AGE.labels(self._part).set(row["age_s"] or 0.0)


def _outgoing(row: db.Record) -> Outgoing:
    return Outgoing(row["subject"], str(row["fact_id"]), row["fact"])


def _rounds(rows: Sequence[db.Record]) -> list[list[db.Record]]:
    """Split rows so that the nth fact of each key is in the nth round."""
    rounds: list[list[db.Record]] = []
    seen: dict[str, int] = {}
    for row in rows:
        place = seen.get(row["key"], 0)
        seen[row["key"]] = place + 1
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(row)
    return rounds
