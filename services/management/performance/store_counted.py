"""The events of a version as they count: summed up to figures, opened by figure, and compared between versions."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from services.management.performance.model_scorecard import (
    APPEAL,
    Credit,
    Figure,
    Part,
    Row,
    Score,
    SubjectKind,
    Totals,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from libs.db import Connection, Record
    from services.management.performance.model_scorecard import Appeal, Definition

ROWS_BATCH = 5000
_COLUMNS = """event_id, event, zone, zones, tier, type, node, handler, first_organisation, verdicts, excluded,
    rulings"""
# The column that holds the organisation for which an event counts.
_CREDITED = {Credit.HANDLER: "handler", Credit.FIRST: "first_organisation"}


class Differing(NamedTuple):
    """An event that two versions count otherwise; None where one of them does not have it."""

    before: Row | None
    after: Row | None


async def copy(conn: Connection, source: int, target: int) -> None:
    """Give a version the events of another, as they count there."""
    await conn.execute(
        f"INSERT INTO scorecard_events (version_id, {_COLUMNS}) SELECT $2, {_COLUMNS} FROM scorecard_events"
        " WHERE version_id = $1",
        source,
        target,
    )


async def rule(conn: Connection, version_id: int, appeal: Appeal, place: int | None) -> None:
    """Let the events of a granted appeal count as it wanted, in the indicator at `place`; in all for None."""
    await conn.execute(
        """UPDATE scorecard_events SET rulings = array_append(rulings, $3),
            excluded = CASE WHEN $4::int IS NULL THEN $6 ELSE excluded END,
            verdicts = CASE WHEN $4::int IS NULL THEN verdicts ELSE overlay(verdicts PLACING $5 FROM $4 FOR 1) END
        WHERE version_id = $1 AND event = ANY($2::text[]) AND NOT rulings @> ARRAY[$3]""",
        version_id, list(appeal.events), appeal.name, None if place is None else place + 1,
        Part.OUTSIDE if appeal.wanted is Part.EXCLUDED else appeal.wanted, APPEAL,
    )  # fmt: skip


async def totals(conn: Connection, version_id: int, definition: Definition, node: str) -> Totals:
    """Return what a version counts in all; `node` is this node."""
    rows = await conn.fetch(
        "SELECT excluded, count(*) AS events FROM scorecard_events WHERE version_id = $1 GROUP BY 1", version_id
    )
    by_code = {row["excluded"]: row["events"] for row in rows}
    unknown = await conn.fetch(
        """SELECT k.place, count(*) AS events FROM scorecard_events r
        CROSS JOIN generate_series(1, $2::int) AS k (place)
        WHERE r.version_id = $1 AND r.excluded = '' AND substr(r.verdicts, k.place, 1) = '?' GROUP BY 1""",
        version_id,
        len(definition.indicators),
    )
    mirrored = await conn.fetchval(
        "SELECT count(*) FROM scorecard_events WHERE version_id = $1 AND node <> $2", version_id, node
    )
    return Totals(
        events=sum(by_code.values()),
        exclusions={code: events for code, events in sorted(by_code.items()) if code},
        mirrored=int(mirrored),
        unknown={
            definition.indicators[row["place"] - 1].id: row["events"]
            for row in sorted(unknown, key=lambda row: row["place"])
        },
    )


async def scores(conn: Connection, version_id: int, definition: Definition) -> list[Score]:
    """Return what all subjects of a version come to, by kind and subject."""
    found: list[Score] = []
    for kind in sorted(definition.subjects):
        figures: dict[str, list[Figure]] = defaultdict(lambda: [Figure()] * len(definition.indicators))
        for credit in Credit:
            places = [place for place, each in enumerate(definition.indicators) if each.credit is credit]
            if places:
                await _add(conn, version_id, kind, credit, places, figures)
        excluded = await _excluded(conn, version_id, kind)
        found += [
            Score(kind, subject, tuple(figures[subject]), excluded.get(subject, 0))
            for subject in sorted(figures.keys() | excluded.keys())
        ]
    return found


def _subjects(kind: SubjectKind, credit: Credit) -> str:
    """Return the subjects of a kind for which a row `r` counts."""
    if kind is SubjectKind.ZONE:
        return "unnest(r.zones)"
    return "(SELECT r.tier)" if kind is SubjectKind.TIER else f"(SELECT r.{_CREDITED[credit]})"


async def _add(
    conn: Connection,
    version_id: int,
    kind: SubjectKind,
    credit: Credit,
    places: Sequence[int],
    figures: dict[str, list[Figure]],
) -> None:
    rows = await conn.fetch(
        f"""SELECT s.subject, k.place, count(*) FILTER (WHERE v.part = 'y') AS met,
            count(*) FILTER (WHERE v.part = 'n') AS not_met, count(*) FILTER (WHERE v.part = '?') AS unknown
        FROM scorecard_events r
        CROSS JOIN LATERAL {_subjects(kind, credit)} AS s (subject)
        CROSS JOIN unnest($2::int[]) AS k (place)
        CROSS JOIN LATERAL (SELECT substr(r.verdicts, k.place + 1, 1)) AS v (part)
        WHERE r.version_id = $1 AND r.excluded = '' AND s.subject <> '' GROUP BY 1, 2""",
        version_id,
        list(places),
    )
    for row in rows:
        figures[row["subject"]][row["place"]] = Figure(row["met"], row["not_met"], row["unknown"])


async def _excluded(conn: Connection, version_id: int, kind: SubjectKind) -> dict[str, int]:
    """Return how many events are kept out of the scores of each subject: an organisation's are those that it has."""
    rows = await conn.fetch(
        f"""SELECT s.subject, count(*) AS events FROM scorecard_events r
        CROSS JOIN LATERAL {_subjects(kind, Credit.HANDLER)} AS s (subject)
        WHERE r.version_id = $1 AND r.excluded <> '' AND s.subject <> '' GROUP BY 1""",
        version_id,
    )
    return {row["subject"]: row["events"] for row in rows}


# -------------------------------------------------------------------------------------------------------------- events


async def behind(
    conn: Connection,
    version_id: int,
    kind: SubjectKind,
    subject: str,
    credit: Credit,
    place: int | None,
    parts: Sequence[Part],
    *,
    after: int,
    limit: int,
) -> list[Row]:
    """Return the events of a subject that count as one of `parts` in the indicator at `place`, behind `after`.

    Without a `place` those that are excluded.
    """
    given = [part for part in parts if part is not Part.EXCLUDED]
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM scorecard_events r
        WHERE r.version_id = $1 AND r.event_id > $2
        AND $3 IN (SELECT subject FROM {_subjects(kind, credit)} AS s (subject))
        AND ((r.excluded = '' AND substr(r.verdicts, $4::int, 1) = ANY($5::text[])) OR (r.excluded <> '' AND $6))
        ORDER BY r.event_id LIMIT $7""",
        version_id, after, subject, (place or 0) + 1, [] if place is None else given, Part.EXCLUDED in parts, limit,
    )  # fmt: skip
    return [_row(row) for row in rows]


async def rows_of(conn: Connection, version_id: int, events: Sequence[str]) -> list[Row]:
    """Return the events of these names, as far as a version has them."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM scorecard_events WHERE version_id = $1 AND event = ANY($2::text[])",
        version_id,
        list(events),
    )
    return [_row(row) for row in rows]


async def every(conn: Connection, version_id: int) -> AsyncIterator[Row]:
    """Yield all events of a version, in the order of their ids."""
    after = 0
    while True:
        rows = await conn.fetch(
            f"""SELECT {_COLUMNS} FROM scorecard_events WHERE version_id = $1 AND event_id > $2
            ORDER BY event_id LIMIT $3""",
            version_id, after, ROWS_BATCH,
        )  # fmt: skip
        for row in rows:
            yield _row(row)
        if len(rows) < ROWS_BATCH:
            return
        after = rows[-1]["event_id"]


async def differing(conn: Connection, before: int, after: int, *, behind: int, limit: int) -> list[Differing]:
    """Return the events that count otherwise in one version than in another, by their ids, those behind `behind`."""
    rows = await conn.fetch(
        """SELECT event_id FROM (SELECT * FROM scorecard_events WHERE version_id = $1) AS a
        FULL JOIN (SELECT * FROM scorecard_events WHERE version_id = $2) AS b USING (event_id)
        WHERE event_id > $3 AND (a.event IS NULL OR b.event IS NULL OR (a.zones, a.tier, a.handler,
            a.first_organisation, a.verdicts, a.excluded) IS DISTINCT FROM (b.zones, b.tier, b.handler,
            b.first_organisation, b.verdicts, b.excluded))
        ORDER BY event_id LIMIT $4""",
        before, after, behind, limit,
    )  # fmt: skip
    ids = [row["event_id"] for row in rows]
    pair = [{row.event_id: row for row in await _by_id(conn, version_id, ids)} for version_id in (before, after)]
    return [Differing(pair[0].get(event_id), pair[1].get(event_id)) for event_id in ids]


async def _by_id(conn: Connection, version_id: int, ids: Sequence[int]) -> list[Row]:
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM scorecard_events WHERE version_id = $1 AND event_id = ANY($2::bigint[])",
        version_id,
        list(ids),
    )
    return [_row(row) for row in rows]


def _row(row: Record) -> Row:
    return Row(
        event_id=row["event_id"],
        event=row["event"],
        zone=row["zone"],
        zones=tuple(row["zones"]),
        tier=row["tier"],
        type=row["type"],
        node=row["node"],
        handler=row["handler"],
        first_organisation=row["first_organisation"],
        verdicts=row["verdicts"],
        excluded=row["excluded"],
        rulings=tuple(row["rulings"]),
    )
