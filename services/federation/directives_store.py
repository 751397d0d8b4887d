"""Directives as this node knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from libs.errors import NotFound, Reason
from quintet.federation.v1 import directive_pb2 as pb
from services.federation.directive_rules import OPEN, UNSETTLED, time_of

if TYPE_CHECKING:
    from libs.access import Visibility
    from libs.db import Connection, Record


@dataclass(frozen=True)
class Kept:
    """One row of `directives`.

    `upper` is the peer that it came from, `lower` the one that it was passed to, "" for none.
    """

    directive: pb.Directive
    upper: str
    lower: str
    look_at: datetime | None

    def after(self, directive: pb.Directive, look_at: datetime | None) -> Kept:
        """Return the row after a change of the directive."""
        return replace(self, directive=directive, look_at=look_at)

    @property
    def here(self) -> bool:
        """Whether this node has to act."""
        return not self.lower

    @property
    def organisation(self) -> str:
        """Whom of this node it is for; "" for nobody in particular, or for people of another node."""
        return self.directive.organisation if self.here else ""

    @property
    def issuer(self) -> str:
        """Who of this node gave it; "" for another node's people."""
        return "" if self.upper else self.directive.issued_by


@dataclass(frozen=True)
class Wanted:
    """What a list keeps. State 0, no zones, and "" mean all; `sender` and `receiver` are nodes."""

    state: int
    zones: Sequence[str]
    sender: str
    receiver: str


async def insert(conn: Connection, kept: Kept) -> None:
    """Insert a directive."""
    await conn.execute(
        "INSERT INTO directives (id, upper, lower, from_node, to_node, zone, organisation, issuer, state, issued_at,"
        " escalations, look_at, directive) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        _id(kept.directive.name),
        kept.upper,
        kept.lower,
        kept.directive.from_node,
        kept.directive.to_node,
        kept.directive.zone,
        kept.organisation,
        kept.issuer,
        kept.directive.state,
        time_of(kept.directive.issued_at),
        kept.directive.escalations,
        kept.look_at,
        kept.directive.SerializeToString(),
    )


async def update(conn: Connection, kept: Kept) -> None:
    """Write what can change of a directive."""
    await conn.execute(
        "UPDATE directives SET to_node = $2, state = $3, escalations = $4, look_at = $5, directive = $6 WHERE id = $1",
        _id(kept.directive.name),
        kept.directive.to_node,
        kept.directive.state,
        kept.directive.escalations,
        kept.look_at,
        kept.directive.SerializeToString(),
    )


async def find(conn: Connection, name: str, *, lock: bool = False) -> Kept | None:
    """Return a directive; None when there is none."""
    query = "SELECT upper, lower, look_at, directive FROM directives WHERE id = $1" + (" FOR UPDATE" if lock else "")
    row = await conn.fetchrow(query, _id(name))
    return _kept(row) if row else None


async def get(conn: Connection, name: str, *, lock: bool = False) -> Kept:
    """Return a directive. Raises NotFound."""
    found = await find(conn, name, lock=lock)
    if found is None:
        raise NotFound(Reason.DIRECTIVE_NOT_FOUND, f"{name} does not exist", name=name)
    return found


async def page(
    conn: Connection, visible: Visibility, wanted: Wanted, after: tuple[datetime, str] | None, limit: int
) -> list[Kept]:
    """Return directives that the caller may see, newest first."""
    seen, values = visible.clause(8, zone="zone", organisation="organisation", owner="issuer")
    query = f"""
        SELECT upper, lower, look_at, directive FROM directives
        WHERE ($1::smallint = 0 OR state = $1) AND ($2::text[] = '{{}}' OR zone = ANY($2))
          AND ($3 = '' OR from_node = $3) AND ($4 = '' OR (to_node = $4 AND lower = ''))
          AND ($5::timestamptz IS NULL OR (issued_at, id) < ($5, $6)) AND {seen}
        ORDER BY issued_at DESC, id DESC LIMIT $7
    """
    time, last = after or (None, "")
    rows = await conn.fetch(
        query, wanted.state, list(wanted.zones), wanted.sender, wanted.receiver, time, last, limit, *values
    )
    return [_kept(row) for row in rows]


async def due(conn: Connection, now: datetime, limit: int) -> list[Kept]:
    """Return and lock directives of which something is due."""
    query = """
        SELECT upper, lower, look_at, directive FROM directives WHERE look_at <= $1 ORDER BY look_at, id LIMIT $2
        FOR UPDATE SKIP LOCKED
    """
    return [_kept(row) for row in await conn.fetch(query, now, limit)]


async def open_count(conn: Connection) -> int:
    """Return how many directives are not over."""
    query = "SELECT count(*) FROM directives WHERE look_at IS NOT NULL AND state = ANY($1::smallint[])"
    return int(await conn.fetchval(query, sorted(OPEN)))


async def unsettled(conn: Connection, lower: str, node: str) -> int:
    """Return how many directives of this node, passed to `lower`, were escalated and neither taken up nor settled."""
    query = """
        SELECT count(*) FROM directives
        WHERE lower = $1 AND from_node = $2 AND escalations > 0 AND state = ANY($3::smallint[])
    """
    return int(await conn.fetchval(query, lower, node, sorted(UNSETTLED)))


def _kept(row: Record) -> Kept:
    return Kept(pb.Directive.FromString(row["directive"]), row["upper"], row["lower"], row["look_at"])


def _id(name: str) -> str:
    return name.removeprefix("directives/")
