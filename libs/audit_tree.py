"""The Merkle tree of a log in its tables: a root or a proof of any size costs a few hundred hashes, not a million.

The leaves follow from the entries. Of the nodes above them those of every eighth level are kept, in `audit_tiles`, one
row for 256 entries: proofs for old sizes stay cheap, and the log grows by next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs import merkle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from libs.db import Connection

TILE_LEVELS = 8
TILE_NODES = 1 << TILE_LEVELS
# 2^40 entries; above that nodes are computed from those of this level.
TILE_LEVEL_MAX = 32


class Tiles:
    """Computes the nodes that are kept while leaves come one by one."""

    def __init__(self) -> None:
        self._waiting: list[list[bytes]] = []
        self._done: list[int] = []

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Return the (level, index, hash) that the hash of one more leaf completes, mostly none."""
        completed: list[tuple[int, int, bytes]] = []
        carried, tier = leaf, 0
        while (tier + 1) * TILE_LEVELS <= TILE_LEVEL_MAX:
            if tier == len(self._waiting):
                self._waiting.append([])
                self._done.append(0)
            self._waiting[tier].append(carried)
            if len(self._waiting[tier]) < TILE_NODES:
                break
            carried = merkle.root_of(self._waiting[tier])
            completed.append(((tier + 1) * TILE_LEVELS, self._done[tier], carried))
            self._waiting[tier] = []
            self._done[tier] += 1
            tier += 1
        return completed


async def grow(conn: Connection, size: int) -> None:
    """Keep the nodes that the first `size` entries complete and that are not kept yet. Raises LookupError."""
    for level in range(TILE_LEVELS, TILE_LEVEL_MAX + 1, TILE_LEVELS):
        have = 1 + await conn.fetchval("SELECT coalesce(max(index), -1) FROM audit_tiles WHERE level = $1", level)
        full = size >> level
        for index in range(have, full):
            below = await _base(conn, level - TILE_LEVELS, [(index * TILE_NODES, (index + 1) * TILE_NODES)])
            if len(below) != TILE_NODES:
                raise LookupError(f"the log does not hold all of the {TILE_NODES} nodes below {level}/{index}")
            await conn.execute(
                "INSERT INTO audit_tiles (level, index, hash) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                level,
                index,
                merkle.root_of(hash_ for _, hash_ in sorted(below.items())),
            )
        if not full:
            return


async def tiles(conn: Connection, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """Return those of the kept nodes that are there."""
    levels, indexes = zip(*wanted, strict=True)
    rows = await conn.fetch(
        """SELECT level, index, hash FROM audit_tiles JOIN unnest($1::smallint[], $2::bigint[]) AS w(level, index)
        USING (level, index)""",
        levels,
        indexes,
    )
    return {(row["level"], row["index"]): row["hash"] for row in rows}


async def root(conn: Connection, size: int) -> bytes:
    """Return the root of the first `size` entries, for which the tree has been grown."""
    hashes = await _hashes(conn, lambda get: merkle.root(size, get))
    return merkle.root(size, hashes)


async def inclusion_proof(conn: Connection, index: int, size: int) -> list[bytes]:
    """Return the inclusion proof of the leaf `index`, counted from 0. Raises like `merkle.inclusion_proof`."""
    hashes = await _hashes(conn, lambda get: merkle.inclusion_proof(index, size, get))
    return merkle.inclusion_proof(index, size, hashes)


async def consistency_proof(conn: Connection, old: int, new: int) -> list[bytes]:
    """Return the consistency proof between two sizes. Raises like `merkle.consistency_proof`."""
    hashes = await _hashes(conn, lambda get: merkle.consistency_proof(old, new, get))
    return merkle.consistency_proof(old, new, hashes)


async def _hashes(conn: Connection, maker: Callable[[merkle.Hashes], object]) -> merkle.Hashes:
    """Read what a maker of a root or proof asks for, in one query for each kept level.

    Raises LookupError when the tables do not hold it: somebody has taken it out.
    """
    ranges: dict[int, list[tuple[int, int]]] = {}
    for level, index in merkle.places(maker):
        base = min(level - level % TILE_LEVELS, TILE_LEVEL_MAX)
        ranges.setdefault(base, []).append((index << (level - base), (index + 1) << (level - base)))
    found = {base: await _base(conn, base, wanted) for base, wanted in ranges.items()}

    def get(level: int, index: int) -> bytes:
        base = min(level - level % TILE_LEVELS, TILE_LEVEL_MAX)
        below = found[base]
        return merkle.root_of(below[place] for place in range(index << (level - base), (index + 1) << (level - base)))

    return get


async def _base(conn: Connection, level: int, ranges: list[tuple[int, int]]) -> dict[int, bytes]:
    """Return the hashes of a kept level, or of the leaves, in ranges of indexes (first, behind the last)."""
    firsts, ends = zip(*ranges, strict=True)
    if level:
        rows = await conn.fetch(
            """SELECT index, hash FROM unnest($2::bigint[], $3::bigint[]) AS r(first, behind)
            JOIN audit_tiles ON level = $1 AND index >= first AND index < behind""",
            level,
            firsts,
            ends,
        )
        return {row["index"]: row["hash"] for row in rows}
    rows = await conn.fetch(
        """SELECT sequence, hash FROM unnest($1::bigint[], $2::bigint[]) AS r(first, behind)
        JOIN audit_entries ON sequence > first AND sequence <= behind""",
        firsts,
        ends,
    )
    return {row["sequence"] - 1: merkle.leaf_hash(row["hash"]) for row in rows}
