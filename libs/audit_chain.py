"""The hash chain of the audit log and its signed checkpoints: pure functions that a third party can repeat.

The hash of an entry is SHA-256 over the hash of the entry before (32 zero bytes for the first) followed by the
canonical JSON (RFC 8785) of {part, sequence, time, actor, action, resource, detail, trace_id}. These hashes are the
leaves of a Merkle tree (libs.merkle). A checkpoint is the canonical JSON of {node, part, sequence, head, root, time}
signed with Ed25519; those signed before there was a tree lack the root. Times are RFC 3339 in UTC with microseconds,
head and root hexadecimal.
"""

from __future__ import annotations

import hashlib
import json
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
    """The node's signed statement about a chain and its tree. `sequence`, `head` and `root` repeat what it says."""

    sequence: int
    head: bytes
    time: datetime
    statement: str
    key_id: str
    signature: bytes
    root: bytes = b""


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
    return chained(
        previous_hash,
        {
            "part": part,
            "sequence": sequence,
            "time": rfc3339(entry.time),
            "actor": entry.actor,
            "action": entry.action,
            "resource": entry.resource,
            "detail": canonical.loads(entry.detail),
            "trace_id": entry.trace_id,
        },
    )


def chained(previous_hash: bytes, document: Mapping[str, canonical.JsonValue]) -> bytes:
    """Return the hash of an entry given as the document that is hashed, behind the entry with `previous_hash`."""
    return hashlib.sha256(previous_hash + canonical.dumps(document)).digest()


def stored(detail: canonical.JsonValue) -> str:
    """Return the detail of an entry as the text that is kept."""
    return json.dumps(detail, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


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
        # The hash is over the meaning of the detail; the text that is kept has one form, too.
        if entry.hash != expected or stored(json.loads(entry.detail)) != entry.detail:
            return Verdict(head, f"entry {entry.sequence} was altered: its hash does not match its content")
        head = Head(entry.sequence, entry.hash)
    return Verdict(head)


def key_id(key: Ed25519PublicKey) -> str:
    """Return the fingerprint of a public key: the first 16 hex digits of the SHA-256 of its raw form."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:KEY_ID_CHARS]


def sign_checkpoint(
    key: Ed25519PrivateKey, node: str, part: str, head: Head, root: bytes, time: datetime
) -> Checkpoint:
    """State that at `time` the chain of a part ended in `head`, and that its tree had this root."""
    statement = _statement(node, part, head, root, time)
    signature = key.sign(statement)
    return Checkpoint(head.sequence, head.hash, time, statement.decode(), key_id(key.public_key()), signature, root)


def verify_checkpoint(
    checkpoint: Checkpoint, node: str, part: str, keys: Mapping[str, Ed25519PublicKey], head: bytes, root: bytes
) -> str:
    """Return what is wrong with a checkpoint, "" when nothing is.

    `keys` are the node's public keys by `key_id`, present and past; `head` and `root` what the chain and the tree come
    to at the checkpoint's sequence.
    """
    where = f"checkpoint {checkpoint.sequence}"
    key = keys.get(checkpoint.key_id)
    if key is None:
        return f"{where} is signed with a key that is not the node's"
    statement = _statement(node, part, Head(checkpoint.sequence, checkpoint.head), checkpoint.root, checkpoint.time)
    if statement != checkpoint.statement.encode():
        return f"{where} does not say what was signed"
    try:
        key.verify(checkpoint.signature, statement)
    except InvalidSignature:
        return f"{where} has a signature that does not hold"
    if checkpoint.head != head:
        return f"entry {checkpoint.sequence} is not the one that its checkpoint was signed for"
    if checkpoint.root not in {b"", root}:
        return f"the entries up to {checkpoint.sequence} are not those that their checkpoint was signed for"
    return ""


def _statement(node: str, part: str, head: Head, root: bytes, time: datetime) -> bytes:
    document: dict[str, canonical.JsonValue] = {
        "node": node,
        "part": part,
        "sequence": head.sequence,
        "head": head.hash.hex(),
        "time": rfc3339(time),
    }
    if root:
        document["root"] = root.hex()
    return canonical.dumps(document)
