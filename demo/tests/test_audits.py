import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from demo.audits import Chain, checkpoint_fault
from demo.evidence import AuditRow, CheckpointRow
from libs import merkle
from libs.audit_chain import START, Entry, Head, entry_hash, sign_checkpoint

TIME = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()


def rows(count: int) -> list[AuditRow]:
    """Entries as a node writes them."""
    found: list[AuditRow] = []
    head = START
    for sequence in range(1, count + 1):
        detail = rfc8785.dumps({"n": sequence, "share": 0.5, "text": "立案"}).decode()
        entry = Entry(TIME, "people/a", "management.events.file", "zones/x/events/1", detail, "")
        hashed = entry_hash("management", sequence, head.hash, entry)
        found.append(AuditRow(sequence, TIME, *_texts(entry), head.hash, hashed))
        head = Head(sequence, hashed)
    return found


def _texts(entry: Entry) -> tuple[str, str, str, str, str]:
    return entry.actor, entry.action, entry.resource, entry.detail, entry.trace_id


def fault(entries: list[AuditRow]) -> str:
    chain = Chain("management")
    return next((found for found in map(chain.add, entries) if found), "")


def test_the_recomputed_chain_agrees_with_the_nodes_own() -> None:
    assert not fault(rows(3))


def test_altered_missing_and_reordered_entries_are_found() -> None:
    entries = rows(3)
    assert fault([entries[0], replace(entries[1], actor="people/b"), entries[2]]) == "entry 2 does not hold"
    assert fault([entries[0], entries[2]]) == "entry 2 is missing"
    rehashed = replace(entries[1], resource="other", hash=hashlib.sha256(b"").digest())
    assert fault([entries[0], rehashed, entries[2]]) == "entry 2 does not hold"


def test_checkpoints_hold_only_for_the_chain_that_they_were_signed_for() -> None:
    entries = rows(2)
    chain = Chain("management")
    for entry in entries:
        assert not chain.add(entry)
    root = merkle.root_of(merkle.leaf_hash(entry.hash) for entry in entries)
    signed = sign_checkpoint(KEY, "sf", "management", Head(2, entries[1].hash), root, TIME)
    good = CheckpointRow(signed.sequence, signed.head, signed.time, signed.statement, signed.key_id, signed.signature)
    assert not checkpoint_fault(good, "sf", "management", chain, KEY.public_key())
    assert checkpoint_fault(good, "sf-d6", "management", chain, KEY.public_key())
    assert checkpoint_fault(replace(good, signature=bytes(64)), "sf", "management", chain, KEY.public_key())
    assert checkpoint_fault(good, "sf", "management", chain, Ed25519PrivateKey.generate().public_key())
    another = sign_checkpoint(KEY, "sf", "management", Head(2, entries[1].hash), bytes(32), TIME)
    forged = replace(good, statement=another.statement, signature=another.signature)
    assert checkpoint_fault(forged, "sf", "management", chain, KEY.public_key()) == "checkpoint 2 is of another chain"
