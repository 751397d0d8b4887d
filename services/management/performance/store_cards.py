"""Scorecards with their versions and scores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from services.management.performance.model_scorecard import Card, Figure, Score, SubjectKind, Totals, Version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record

_CARD = "c.id, c.name, c.zone, c.definition, c.definition_version, c.period_from, c.period_to, c.published"
_VERSION = """v.id, v.number, v.as_of, v.reason, v.made_by, v.totals, v.published_by, v.published_at, v.content_hash,
    v.previous_hash, v.signature"""


async def insert(conn: Connection, card: Card) -> int:
    """Store a new scorecard; return its id."""
    return int(
        await conn.fetchval(
            """INSERT INTO scorecards (name, zone, definition, definition_version, period_from, period_to)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING id""",
            card.name, card.zone, card.definition, card.definition_version, card.period_from, card.period_to,
        )
    )  # fmt: skip


async def get(conn: Connection, name: str, *, lock: bool = False) -> Card | None:
    """Return a scorecard; with `lock` nobody else changes it until the end of the transaction."""
    row = await conn.fetchrow(
        f"SELECT {_CARD} FROM scorecards c WHERE c.name = $1 {'FOR UPDATE' if lock else ''}", name
    )
    return _card(row) if row else None


async def page(
    conn: Connection, zones: Sequence[str], *, drafts: Sequence[str], after: int | None, limit: int
) -> list[tuple[Card, Version]]:
    """Return the scorecards of zones, newest first, behind `after`, each in its latest version.

    Drafts are shown in the zones `drafts` alone.
    """
    rows = await conn.fetch(
        f"""SELECT {_CARD}, p.* FROM scorecards c CROSS JOIN LATERAL (
            SELECT {_VERSION.replace("v.id", "v.id AS version_id")} FROM scorecard_versions v
            WHERE v.scorecard = c.id AND (v.published_at IS NOT NULL OR c.zone = ANY($2::text[]))
            ORDER BY v.number DESC LIMIT 1
        ) AS p WHERE c.zone = ANY($1::text[]) AND ($3::bigint IS NULL OR c.id < $3) ORDER BY c.id DESC LIMIT $4""",
        list(zones), list(drafts), after, limit,
    )  # fmt: skip
    return [(_card(row), _version(row, row["version_id"])) for row in rows]


async def version(conn: Connection, card: Card, number: int, *, drafts: bool) -> Version | None:
    """Return a version of a scorecard, the latest for 0; a draft with `drafts` alone."""
    row = await conn.fetchrow(
        f"""SELECT {_VERSION} FROM scorecard_versions v
        WHERE v.scorecard = $1 AND ($2 = 0 OR v.number = $2) AND ($3 OR v.published_at IS NOT NULL)
        ORDER BY v.number DESC LIMIT 1""",
        card.id, number, drafts,
    )  # fmt: skip
    return _version(row, row["id"]) if row else None


async def add(conn: Connection, card: Card, made: Version) -> int:
    """Store the draft of a version in the place of one that is there; return its id."""
    await conn.execute(
        "DELETE FROM scorecard_versions WHERE scorecard = $1 AND number = $2 AND published_at IS NULL",
        card.id, made.number,
    )  # fmt: skip
    return int(
        await conn.fetchval(
            """INSERT INTO scorecard_versions (scorecard, number, as_of, reason, made_by)
            VALUES ($1, $2, $3, $4, $5) RETURNING id""",
            card.id, made.number, made.as_of, made.reason, made.made_by,
        )
    )  # fmt: skip


async def put_totals(conn: Connection, version_id: int, totals: Totals) -> None:
    await conn.execute(
        "UPDATE scorecard_versions SET totals = $2 WHERE id = $1", version_id, json.dumps(totals_json(totals))
    )


async def seal(conn: Connection, card: Card, sealed: Version) -> None:
    """Store that a draft was published, as it was sealed."""
    await conn.execute(
        """UPDATE scorecard_versions SET published_by = $2, published_at = $3, content_hash = $4, previous_hash = $5,
            signature = $6 WHERE id = $1""",
        sealed.id, sealed.published_by, sealed.published_at, sealed.content_hash, sealed.previous_hash,
        sealed.signature,
    )  # fmt: skip
    await conn.execute("UPDATE scorecards SET published = $2 WHERE id = $1", card.id, sealed.number)


# -------------------------------------------------------------------------------------------------------------- scores


async def put_scores(conn: Connection, version_id: int, scores: Sequence[Score]) -> None:
    await conn.executemany(
        "INSERT INTO scorecard_scores (version_id, kind, subject, score) VALUES ($1, $2, $3, $4)",
        [(version_id, score.kind, score.subject, json.dumps(score_json(score))) for score in scores],
    )


async def scores(
    conn: Connection,
    version_id: int,
    kind: str = "",
    *,
    organisations: Sequence[str] | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> list[Score]:
    """Return scores by kind and subject, behind `after`; of `organisations` alone unless that is None."""
    rows = await conn.fetch(
        """SELECT kind, subject, score FROM scorecard_scores
        WHERE version_id = $1 AND ($2 = '' OR kind = $2) AND (kind, subject) > ($3, $4)
        AND ($5::text[] IS NULL OR (kind = 'organisation' AND subject = ANY($5))) ORDER BY kind, subject LIMIT $6""",
        version_id, kind, *after, None if organisations is None else list(organisations), limit,
    )  # fmt: skip
    return [_score(row) for row in rows]


async def organisations(conn: Connection, version_id: int) -> list[str]:
    """Return the organisations that a version scores."""
    query = "SELECT subject FROM scorecard_scores WHERE version_id = $1 AND kind = 'organisation' ORDER BY subject"
    return [row["subject"] for row in await conn.fetch(query, version_id)]


# ---------------------------------------------------------------------------------------------------------------- rows


def score_json(score: Score) -> dict[str, Any]:
    """Return a score without its subject, as it is stored and sealed."""
    return {
        "figures": [[figure.met, figure.not_met, figure.unknown] for figure in score.figures],
        "excluded": score.excluded,
    }


def totals_json(totals: Totals) -> dict[str, Any]:
    """Return totals as they are stored and sealed."""
    return {
        "events": totals.events,
        "exclusions": dict(totals.exclusions),
        "mirrored": totals.mirrored,
        "unknown": dict(totals.unknown),
    }


def _card(row: Record) -> Card:
    return Card(
        id=row["id"],
        name=row["name"],
        zone=row["zone"],
        definition=row["definition"],
        definition_version=row["definition_version"],
        period_from=row["period_from"],
        period_to=row["period_to"],
        published=row["published"],
    )


def _version(row: Record, version_id: int) -> Version:
    published_at: datetime | None = row["published_at"]
    totals = json.loads(row["totals"])
    return Version(
        id=version_id,
        number=row["number"],
        as_of=row["as_of"],
        reason=row["reason"],
        made_by=row["made_by"],
        totals=Totals(**totals) if totals else Totals(),
        published_by=row["published_by"],
        published_at=published_at,
        content_hash=row["content_hash"],
        previous_hash=row["previous_hash"],
        signature=row["signature"],
    )


def _score(row: Record) -> Score:
    found = json.loads(row["score"])
    figures = tuple(Figure(*each) for each in found["figures"])
    return Score(SubjectKind(row["kind"]), row["subject"], figures, found["excluded"])
