"""The audit logs of all nodes, verified as a third party would: chain, checkpoints and signatures recomputed.

An entry's hash is SHA-256 over the hash before it (32 zero bytes at first) and the RFC 8785 JSON of its content; the
hashes are the leaves of a Merkle tree (RFC 9162, section 2.1.1); a checkpoint is RFC 8785 JSON signed with the node's
Ed25519 key (proto/quintet/audit/v1/audit.proto).
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from demo.evidence import AuditRow, CheckpointRow, Database
from demo.nodes import Node
from libs.config import PARTS

NODE_KEY = "node-key"
KEY_ID_CHARS = 16
INTEGER_MAX = 2**53 - 1


@dataclass(slots=True)
class AuditResult:
    """How many entries and checkpoints were read, and what is wrong with them."""

    entries: int = 0
    checkpoints: int = 0
    faults: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        return not self.faults and self.entries > 0


class Chain:
    """The chain of one log, and the tree over it, entry by entry."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._head = bytes(32)
        self.hashes: dict[int, bytes] = {}
        # The largest full subtrees from left to right: number of leaves, hash.
        self._subtrees: list[tuple[int, bytes]] = []

    def add(self, entry: AuditRow) -> str:
        """What is wrong with the next entry; empty when it holds."""
        expected = len(self.hashes) + 1
        if entry.sequence != expected:
            return f"entry {expected} is missing"
        content = rfc8785.dumps({
            "part": self._part,
            "sequence": entry.sequence,
            "time": _written(entry.time),
            "actor": entry.actor,
            "action": entry.action,
            "resource": entry.resource,
            "detail": json.loads(entry.detail, parse_int=_number),
            "trace_id": entry.trace_id,
        })  # fmt: skip
        recomputed = hashlib.sha256(self._head + content).digest()
        if entry.previous_hash != self._head or entry.hash != recomputed:
            return f"entry {entry.sequence} does not hold"
        self._head = self.hashes[entry.sequence] = recomputed
        self._subtrees.append((1, hashlib.sha256(b"\x00" + recomputed).digest()))
        while len(self._subtrees) > 1 and self._subtrees[-1][0] == self._subtrees[-2][0]:
            (leaves, right), (_, left) = self._subtrees.pop(), self._subtrees.pop()
            self._subtrees.append((2 * leaves, hashlib.sha256(b"\x01" + left + right).digest()))
        return ""

    def root(self) -> bytes:
        """The root of the tree over the entries so far, of which there is one at least."""
        *others, (_, root) = self._subtrees
        for _, left in reversed(others):
            root = hashlib.sha256(b"\x01" + left + root).digest()
        return root


def checkpoint_fault(checkpoint: CheckpointRow, node: str, part: str, chain: Chain, key: Ed25519PublicKey) -> str:
    """What is wrong with a checkpoint of what the chain holds now; empty when nothing is."""
    statement = rfc8785.dumps({
        "node": node,
        "part": part,
        "sequence": checkpoint.sequence,
        "head": checkpoint.head.hex(),
        "root": chain.root().hex(),
        "time": _written(checkpoint.time),
    })  # fmt: skip
    if checkpoint.statement.encode() != statement or chain.hashes.get(checkpoint.sequence) != checkpoint.head:
        return f"checkpoint {checkpoint.sequence} is of another chain"
    if checkpoint.key_id != hashlib.sha256(key.public_bytes_raw()).hexdigest()[:KEY_ID_CHARS]:
        return f"checkpoint {checkpoint.sequence} is signed with another key"
    try:
        key.verify(checkpoint.signature, statement)
    except InvalidSignature:
        return f"checkpoint {checkpoint.sequence} has a signature that does not hold"
    return ""


async def verify_audit(node: Node, database: Database) -> AuditResult:
    """Verify all logs of a node."""
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(node.secrets.read(NODE_KEY)))
    result = AuditResult()
    faults: list[str] = []
    for part in PARTS:
        chain = Chain(part)
        fault = ""
        checkpoints = {checkpoint.sequence: checkpoint for checkpoint in await database.checkpoints(part)}
        result.checkpoints += len(checkpoints)
        async for entry in database.audit_entries(part):
            result.entries += 1
            fault = fault or chain.add(entry)
            if not fault and (checkpoint := checkpoints.pop(entry.sequence, None)):
                fault = checkpoint_fault(checkpoint, node.spec.id, part, chain, private.public_key())
        if not fault and checkpoints:
            fault = f"the entries of checkpoint {min(checkpoints)} are missing"
        if fault:
            faults.append(f"{node.spec.id} {part}: {fault}")
    result.faults = tuple(faults)
    return result


def _written(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _number(text: str) -> int | float:
    number = int(text)
    return number if abs(number) <= INTEGER_MAX else float(text)
