"""Sums over facts that come out the same in whatever order they are added, and the UTC day on which a fact counts.

Both ends of a contract count by these: the day is that of the fact's own time, which both read from the same bytes.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from google.protobuf.timestamp_pb2 import Timestamp

DIGEST_MODULUS = 2**256
DIGEST_BYTES = 32

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def time_of(stamp: Timestamp) -> datetime:
    """Return a fact's time, moved into the years that a date can hold: it may come from anybody."""
    try:
        found = _EARLIEST + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError:
        found = _LATEST if stamp.seconds > 0 else _EARLIEST
    return min(max(found, _EARLIEST), _LATEST)


def id_digest(fact_id: UUID) -> int:
    """Return SHA-256 of the id's text (lower case, with dashes) as a number, to be added modulo DIGEST_MODULUS."""
    return int.from_bytes(hashlib.sha256(str(fact_id).encode()).digest(), "big")


def digest_bytes(digest: int) -> bytes:
    """Return a sum of digests as it stands in messages: 32 bytes, big-endian."""
    return digest.to_bytes(DIGEST_BYTES, "big")
