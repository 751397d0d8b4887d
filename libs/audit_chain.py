"""The hash chain of the audit log and its signed checkpoints: pure functions that a third party can repeat.

The hash of an entry is SHA-256 over the hash of the entry before (32 zero bytes for the first) followed by the
canonical JSON (RFC 8785) of {part, sequence, time, actor, action, resource, detail, trace_id}. A checkpoint is the
canonical JSON of {node, part, sequence, head, time} signed with Ed25519. Times are RFC 3339 in UTC with microseconds,
heads hexadecimal.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_ID_CHARS = 16


@dataclass(frozen=True)
class Head:
    """How far a chain has come: the sequence of its last entry and that entry's hash."""

    sequence: int
    hash: bytes


START = Head(0, bytes(32))


@dataclass(frozen=True)
class Entry:
    """One audit entry. `detail` is JSON. Unsealed entries have sequence 0 and no hashes."""

    time: datetime
    actor: str
    action: str
    resource: str
    detail: str
    trace_id: str
    sequence: int = 0
    previous_hash: bytes = b""
    hash: bytes = b""


@dataclass(frozen=True)
class Checkpoint:
    """The node's signed statement about a chain. `sequence` and `head` repeat what the statement says."""

    sequence: int
    head: bytes
    time: datetime
    statement: str
    key_id: str
    signature: bytes


@dataclass(frozen=True)
class Verdict:
    """How far a chain holds, and the first fault behind that, "" when there is none."""

    head: Head
    fault: str = ""


def rfc3339(time: datetime) -> str:
    """Return an aware time as "2026-11-21T08:30:00.123456Z"."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def entry_hash(part: str, sequence: int, previous_hash: bytes, entry: Entry) -> bytes:
    """Return the hash of an entry at its place in the chain of a part."""
    document = canonical.dumps(
        {
            "part": part,
            "sequence": sequence,
            "time": rfc3339(entry.time),
            "actor": entry.actor,
            "action": entry.action,
            "resource": entry.resource,
            "detail": canonical.loads(entry.detail),
            "trace_id": entry.trace_id,
        }
    )
    return hashlib.sha256(previous_hash + document).digest()


def extend(part: str, head: Head, entry: Entry) -> Head:
    """Return the head of the chain once `entry` follows `head`."""
    sequence = head.sequence + 1
    return Head(sequence, entry_hash(part, sequence, head.hash, entry))


def verify_chain(part: str, entries: Iterable[Entry], head: Head = START) -> Verdict:
    """Check entries in order of sequence, continuing from `head`; stops at the first that does not hold."""
    for entry in entries:
        if entry.sequence != head.sequence + 1:
            return Verdict(head, f"entry {head.sequence + 1} is missing")
        if entry.previous_hash != head.hash:
            return Verdict(head, f"entry {entry.sequence} does not continue entry {head.sequence}")
        try:
            expected = entry_hash(part, entry.sequence, head.hash, entry)
        except ValueError:
            return Verdict(head, f"entry {entry.sequence} holds what was never written: its detail is not JSON")
        if entry.hash != expected:
            return Verdict(head, f"entry {entry.sequence} was altered: its hash does not match its content")
        head = Head(entry.sequence, entry.hash)
    return Verdict(head)


def key_id(key: Ed25519PublicKey) -> str:
    """Return the fingerprint of a public key: the first 16 hex digits of the SHA-256 of its raw form."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:KEY_ID_CHARS]


def sign_checkpoint(key: Ed25519PrivateKey, node: str, part: str, head: Head, time: datetime) -> Checkpoint:
    """State that at `time` the chain of a part ended in `head`."""
    statement = _statement(node, part, head, time)
    return Checkpoint(head.sequence, head.hash, time, statement.decode(), key_id(key.public_key()), key.sign(statement))


def verify_checkpoint(
    checkpoint: Checkpoint, node: str, part: str, keys: Mapping[str, Ed25519PublicKey], heads: Mapping[int, bytes]
) -> str:
    """Return what is wrong with a checkpoint, "" when nothing is.

    `keys` are the node's public keys by `key_id`, present and past; `heads` the hashes of the chain by sequence.
    """
    where = f"checkpoint {checkpoint.sequence}"
    key = keys.get(checkpoint.key_id)
    if key is None:
        return f"{where} is signed with a key that is not the node's"
    statement = _statement(node, part, Head(checkpoint.sequence, checkpoint.head), checkpoint.time)
    if statement != checkpoint.statement.encode():
        return f"{where} does not say what was signed"
    try:
        key.verify(checkpoint.signature, statement)
    except InvalidSignature:
        return f"{where} has a signature that does not hold"
    if heads.get(checkpoint.sequence) != checkpoint.head:
        return f"entry {checkpoint.sequence} is not the one that its checkpoint was signed for"
    return ""


def _statement(node: str, part: str, head: Head, time: datetime) -> bytes:
    return canonical.dumps(
        {"node": node, "part": part, "sequence": head.sequence, "head": head.hash.hex(), "time": rfc3339(time)}
    )
