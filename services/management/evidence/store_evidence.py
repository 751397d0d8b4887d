"""Evidence and the uploads that become it. The bytes of finished evidence are not here but in the object store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.evidence.model_evidence import Evidence, Upload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record

_UPLOAD = ("id", "name", "event_id", "object", "file_name", "size_bytes", "started_by", "started_at", "closed")
_EVIDENCE = ("id", "name", "object", "file_name", "media_type", "size_bytes", "sha256", "uploaded_by", "uploaded_at")
# The step that shows it, told by the steps themselves.
_SELECTED = f"""{", ".join(f"v.{column}" for column in _EVIDENCE)}, coalesce((
    SELECT s.revision FROM event_steps s WHERE s.event_id = v.event_id AND v.name = ANY(s.evidence)), 0) AS step"""


# ------------------------------------------------------------------------------------------------------------- uploads


async def insert_upload(conn: Connection, upload: Upload) -> None:
    """Store a new upload; its id does not count."""
    columns = _UPLOAD[1:]
    await conn.execute(
        f"INSERT INTO evidence_uploads ({', '.join(columns)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        *(getattr(upload, column) for column in columns),
    )


async def count_uploads(conn: Connection, started_by: str) -> int:
    """Return how many uploads a person has not finished."""
    query = "SELECT count(*) FROM evidence_uploads WHERE started_by = $1 AND NOT abandoned"
    return int(await conn.fetchval(query, started_by))


async def lock_upload(conn: Connection, name: str) -> Upload | None:
    """Return an upload that may still be finished, and keep others from changing it until the transaction ends."""
    query = f"SELECT {', '.join(_UPLOAD)} FROM evidence_uploads WHERE name = $1 AND NOT abandoned FOR UPDATE"
    row = await conn.fetchrow(query, name)
    return Upload(**dict(row)) if row else None


async def put_part(conn: Connection, upload: Upload, number: int, content: bytes) -> list[int]:
    """Store a part; return the numbers that are there now."""
    await conn.execute(
        """INSERT INTO evidence_parts (upload_id, number, content) VALUES ($1, $2, $3)
        ON CONFLICT (upload_id, number) DO UPDATE SET content = excluded.content""",
        upload.id,
        number,
        content,
    )
    rows = await conn.fetch("SELECT number FROM evidence_parts WHERE upload_id = $1 ORDER BY number", upload.id)
    return [row["number"] for row in rows]


async def parts(conn: Connection, upload: Upload) -> list[bytes]:
    """Return the parts that are there, in order."""
    rows = await conn.fetch("SELECT content FROM evidence_parts WHERE upload_id = $1 ORDER BY number", upload.id)
    return [row["content"] for row in rows]


async def close(conn: Connection, upload: Upload) -> None:
    """Let a locked upload take no more parts."""
    await conn.execute("UPDATE evidence_uploads SET closed = true WHERE id = $1", upload.id)


async def take_upload(conn: Connection, upload: Upload) -> bool:
    """Remove an upload with its parts; tell whether it was still there to be finished."""
    return bool(
        await conn.fetchval("DELETE FROM evidence_uploads WHERE id = $1 AND NOT abandoned RETURNING true", upload.id)
    )


async def give_up(conn: Connection, upload: Upload) -> None:
    """Let nobody finish a locked upload any more, and remove its parts; its object is found by `abandon`."""
    await conn.execute("UPDATE evidence_uploads SET abandoned = true WHERE id = $1", upload.id)
    await conn.execute("DELETE FROM evidence_parts WHERE upload_id = $1", upload.id)


async def abandon(conn: Connection, before: datetime, limit: int) -> list[tuple[int, str]]:
    """Let nobody finish uploads begun before a time any more; return the rows and objects of some of those."""
    await conn.execute("UPDATE evidence_uploads SET abandoned = true WHERE started_at < $1 AND NOT abandoned", before)
    rows = await conn.fetch("SELECT id, object FROM evidence_uploads WHERE abandoned ORDER BY id LIMIT $1", limit)
    return [(row["id"], row["object"]) for row in rows]


async def forget(conn: Connection, ids: Sequence[int]) -> None:
    """Remove abandoned uploads whose objects are gone."""
    await conn.execute("DELETE FROM evidence_uploads WHERE id = ANY($1::bigint[]) AND abandoned", list(ids))


# ------------------------------------------------------------------------------------------------------------ evidence


async def insert(conn: Connection, event_id: int, evidence: Evidence) -> None:
    """Store evidence of an event."""
    columns = _EVIDENCE[1:]
    await conn.execute(
        f"INSERT INTO evidence (event_id, {', '.join(columns)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        event_id,
        *(getattr(evidence, column) for column in columns),
    )


async def count(conn: Connection, event_id: int) -> int:
    """Return how much evidence there is of an event, uploads that may become it among that."""
    return int(
        await conn.fetchval(
            """SELECT (SELECT count(*) FROM evidence WHERE event_id = $1)
            + (SELECT count(*) FROM evidence_uploads WHERE event_id = $1 AND NOT abandoned)""",
            event_id,
        )
    )


async def get(conn: Connection, name: str) -> Evidence | None:
    """Return one piece of evidence."""
    row = await conn.fetchrow(f"SELECT {_SELECTED} FROM evidence v WHERE v.name = $1", name)
    return _evidence(row) if row else None


async def shown(conn: Connection, event_id: int, names: Sequence[str]) -> list[Evidence]:
    """Return those of some names that are evidence of an event."""
    rows = await conn.fetch(
        f"SELECT {_SELECTED} FROM evidence v WHERE v.event_id = $1 AND v.name = ANY($2::text[])", event_id, list(names)
    )
    return [_evidence(row) for row in rows]


async def list_evidence(conn: Connection, event_id: int, *, after: int, limit: int) -> list[Evidence]:
    """Return the evidence of an event, oldest first, that behind a row."""
    rows = await conn.fetch(
        f"SELECT {_SELECTED} FROM evidence v WHERE v.event_id = $1 AND v.id > $2 ORDER BY v.id LIMIT $3",
        event_id,
        after,
        limit,
    )
    return [_evidence(row) for row in rows]


def _evidence(row: Record) -> Evidence:
    return Evidence(**dict(row))
