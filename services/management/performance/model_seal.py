"""The seal of a published version: SHA-256 over everything that it says, in RFC 8785 lines, signed by the node. Pure.

The first line is the header with the definition's text and the hash of the version before; then one line per score, by
kind and subject, and one per event, by its id. Whoever has the lines can reckon the hash.
"""

from __future__ import annotations

import hashlib
from datetime import UTC
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature

from libs import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from libs.canonical import JsonValue
    from services.management.performance.model_scorecard import Card, Definition, Row, Score, Version

# What is signed begins with this, so that the signature is good for nothing else.
CONTEXT = b"quintet scorecard v1\n"


class Seal:
    """Reckons the hash of a version while its parts come by."""

    def __init__(self, card: Card, version: Version, definition: Definition, totals: Mapping[str, JsonValue]) -> None:
        """`version` has the fields of its publication already, except for the hash and the signature."""
        self._hash = hashlib.sha256()
        self._line(
            {
                "scorecard": card.name,
                "zone": card.zone,
                "period_from": _time(card.period_from),
                "period_to": _time(card.period_to),
                "definition": definition.name,
                "definition_version": definition.version,
                "source": definition.source,
                "version": version.number,
                "as_of": _time(version.as_of),
                "reason": version.reason,
                "made_by": version.made_by,
                "published_by": version.published_by,
                "published_at": _time(version.published_at),
                "previous_hash": version.previous_hash.hex(),
                "totals": totals,
            }
        )

    def score(self, score: Score, values: Mapping[str, JsonValue]) -> None:
        self._line({"kind": score.kind, "subject": score.subject, **values})

    def event(self, row: Row) -> None:
        self._line(
            [
                row.event_id, row.event, row.zone, list(row.zones), row.tier, row.type, row.node, row.handler,
                row.first_organisation, row.verdicts, row.excluded, list(row.rulings),
            ]
        )  # fmt: skip

    @property
    def content_hash(self) -> bytes:
        """SHA-256 of all that came by, 32 bytes."""
        return self._hash.digest()

    def _line(self, value: JsonValue) -> None:
        self._hash.update(canonical.dumps(canonical.storable(value)) + b"\n")


def sign(key: Ed25519PrivateKey, content_hash: bytes) -> bytes:
    """Return the signature of a hash, 64 bytes."""
    return key.sign(CONTEXT + content_hash)


def is_signed(keys: Iterable[Ed25519PublicKey], content_hash: bytes, signature: bytes) -> bool:
    """Return whether one of the keys signed the hash."""
    for key in keys:
        try:
            key.verify(signature, CONTEXT + content_hash)
        except InvalidSignature:
            continue
        return True
    return False


def _time(at: datetime | None) -> str:
    return at.astimezone(UTC).isoformat() if at else ""
