"""The keys of one peer: which of them may sign now, and with which its older evidence verifies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

# How long after its retirement a key still signs: messages are under way, and clocks differ.
KEY_OVERLAP = timedelta(hours=1)


@dataclass(frozen=True)
class SigningKey:
    """One row of `signing_keys`: a public key (Ed25519, 32 bytes) of a node."""

    node: str
    key_id: str
    key: bytes
    valid_from: datetime
    retired_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_reason: str = ""


class KeyRing:
    """What is known of a peer's keys. A session keeps one and renews it when the peer tells of new keys."""

    def __init__(self, node: str, keys: Iterable[SigningKey]) -> None:
        self.node = node
        self.replace(keys)

    def replace(self, keys: Iterable[SigningKey]) -> None:
        """Take these keys in the place of those known before."""
        self._keys = {key.key_id: key for key in keys}

    def at(self, key_id: str, time: datetime) -> bytes:
        """Return the key with which something was signed at `time`; now for what a peer signs as it is sent.

        Raises Forbidden(SIGNATURE_INVALID) for a key that is not known, or that was retired before.
        """
        key = self._known(key_id)
        if key.retired_at is not None and time > key.retired_at + KEY_OVERLAP:
            raise Forbidden(Reason.SIGNATURE_INVALID, f"key {key_id} of {self.node} was retired before it signed this")
        return key.key

    def ever(self, key_id: str) -> bytes:
        """Return the key with which something was signed whose time is not known, or not yet.

        Raises Forbidden(SIGNATURE_INVALID) for a key that is not known, or that was revoked.
        """
        return self._known(key_id).key

    def _known(self, key_id: str) -> SigningKey:
        key = self._keys.get(key_id)
        if key is None:
            raise Forbidden(Reason.SIGNATURE_INVALID, f"{self.node} has no key {key_id}")
        if key.revoked_at is not None:
            raise Forbidden(Reason.SIGNATURE_INVALID, f"key {key_id} of {self.node} was revoked")
        return key
