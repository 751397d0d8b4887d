"""The export of a node's evidence: it verifies as it was made, and any change is found and named."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs import canonical, merkle
from libs.audit_chain import START, Entry, Head, chained, extend, key_id, rfc3339, sign_checkpoint
from libs.audit_export import COSIGN_PREFIX, RECEIPT_PREFIX, Fault, Seal, line, verify
from quintet.federation.v1 import link_pb2

TIME = datetime(2026, 1, 5, 8, 0, 0, 1, tzinfo=UTC)
NODE, PEER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PARTS = {"delivery": 3, "management": 5}


def made(change: Callable[[list[bytes]], object] = lambda _: None) -> list[bytes]:
    """An export; `change` alters the lines before they are sealed."""
    logs = [log(part, size) for part, size in PARTS.items()]
    head = line("export", version=1, node="sf", parts=PARTS)
    keys = [key_line("sf", NODE), key_line("sf-d10", PEER)]
    statements = [json.loads(text)["statement"] for lines in logs for text in lines if b'"kind":"checkpoint"' in text]
    lines = [head, *keys, *(text for entries in logs for text in entries), *map(cosigned, statements)]
    own = sign_checkpoint(PEER, "sf-d10", "identity", Head(2, bytes(32)), bytes(32), TIME)
    lines.append(line("peer_checkpoint", **signed(own.statement, PEER, own.signature)))
    lines += [receipt(sequence) for sequence in (4, 9)]
    change(lines)
    return sealed(lines)


def sealed(lines: list[bytes], key: Ed25519PrivateKey = NODE, **other: Any) -> list[bytes]:
    seal = Seal("sf", "people/auditor.1", rfc3339(TIME), len(lines), sha256(b"".join(lines)).digest())
    return [*lines, replace(seal, **other).signed(key).encode() + b"\n"]


def key_line(node: str, key: Ed25519PrivateKey) -> bytes:
    return line("key", node=node, key_id=key_id(key.public_key()), key=key.public_key().public_bytes_raw().hex())


def log(part: str, size: int) -> list[bytes]:
    lines, head, tree = [], START, merkle.Frontier()
    for number in range(1, size + 1):
        detail = canonical.dumps({"n": number, "share": 0.5, "text": "立案 \u2028"}).decode()
        entry = Entry(TIME, "people/a", f"{part}.file", f"things/{number}", detail, "")
        before, head = head, extend(part, head, entry)
        tree = tree.append(merkle.leaf_hash(head.hash))
        document: dict[str, Any] = {
            "part": part, "sequence": number, "time": rfc3339(TIME), "actor": "people/a", "action": f"{part}.file",
            "resource": f"things/{number}", "detail": canonical.loads(detail), "trace_id": "",
        }  # fmt: skip
        lines.append(line("entry", document=document, hash=head.hash.hex(), previous_hash=before.hash.hex()))
        if number in {2, size}:
            checkpoint = sign_checkpoint(NODE, "sf", part, head, tree.root(), TIME)
            lines.append(line("checkpoint", **signed(checkpoint.statement, NODE, checkpoint.signature)))
    return lines


def signed(statement: str, key: Ed25519PrivateKey, signature: bytes) -> dict[str, str]:
    return {"statement": statement, "key_id": key_id(key.public_key()), "signature": signature.hex()}


def cosigned(statement: str) -> bytes:
    signature = PEER.sign(COSIGN_PREFIX + statement.encode())
    return line("cosignature", node="sf-d10", **signed(statement, PEER, signature))


def receipt(sequence: int) -> bytes:
    message = link_pb2.Receipt(receiver="sf-d10", sender="sf", epoch="e", sequence=sequence, batch_digest=bytes(32))
    data = message.SerializeToString()
    signature = PEER.sign(RECEIPT_PREFIX + data)
    return line("receipt", receipt=data.hex(), key_id=key_id(PEER.public_key()), signature=signature.hex())


def fault(lines: list[bytes], pins: dict[str, frozenset[str]] | None = None) -> str:
    try:
        verify(lines, pins)
    except Fault as found:
        return str(found)
    return ""


def edit(lines: list[bytes], number: int, **fields: Any) -> None:
    lines[number - 1] = canonical.dumps({**json.loads(lines[number - 1]), **fields}) + b"\n"


def test_an_export_verifies_and_says_what_it_holds() -> None:
    summary = verify(made())
    assert (summary.node, summary.exported_by, summary.time) == ("sf", "people/auditor.1", rfc3339(TIME))
    assert summary.entries == PARTS
    assert (summary.checkpoints, summary.peer_checkpoints) == (4, 1)
    assert (summary.cosignatures, summary.receipts) == ({"sf-d10": 4}, {"sf-d10": 2})
    assert summary.unpinned == ["sf", "sf-d10"]


def test_an_export_from_before_and_across_a_rotation_verifies() -> None:
    """The node's key changed after the second entry of each log; the retired one is in the export and may be pinned."""
    old = Ed25519PrivateKey.generate()

    def rotated(lines: list[bytes]) -> None:
        lines.insert(1, key_line("sf", old))
        for number, text in enumerate(lines, start=1):
            found = json.loads(text)
            if found["kind"] == "checkpoint" and json.loads(found["statement"])["sequence"] == 2:
                edit(lines, number, **signed(found["statement"], old, old.sign(found["statement"].encode())))

    across = made(rotated)
    assert len(verify(across).keys["sf"]) == 2
    both = frozenset(sha256(key.public_key().public_bytes_raw()).hexdigest() for key in (old, NODE))
    assert fault(across, {"sf": both}) == ""
    assert "none of those that were given" in fault(across, {"sf": frozenset([min(both)])})
    del across[1]
    assert "not known" in fault(across)


def test_any_changed_byte_is_found() -> None:
    whole = b"".join(made())
    chance = random.Random(7)
    start_of_seal = whole.rindex(b"\n", 0, -1) + 1
    # Every byte of the seal, which no digest covers, and every seventh of the rest.
    for position in [*range(chance.randrange(7), start_of_seal, 7), *range(start_of_seal, len(whole))]:
        for mask in (1 << chance.randrange(8), 0x20):  # 0x20 also turns lower case into upper, and a line feed into *
            changed = bytearray(whole)
            changed[position] ^= mask
            assert fault(bytes(changed).splitlines(keepends=True)), (position, mask, whole[position : position + 20])


def test_added_and_removed_bytes_are_found() -> None:
    whole = b"".join(made())
    chance = random.Random(11)
    for _ in range(100):
        at = chance.randrange(len(whole) + 1)
        for changed in (whole[:at], whole[:at] + b" " + whole[at:], whole[:at] + b"\n" + whole[at:]):
            if changed != whole:
                assert fault(bytes(changed).splitlines(keepends=True)), at


def test_lines_that_move_come_twice_or_go_are_found() -> None:
    lines = made()
    for number in range(len(lines)):
        assert fault(lines[:number] + lines[number + 1 :])
        assert fault([*lines[: number + 1], lines[number], *lines[number + 1 :]])
        if number:
            assert fault([*lines[: number - 1], lines[number], lines[number - 1], *lines[number + 1 :]])


# Whoever holds the node's key can seal anything anew; what is inside is signed by itself. Lines: 1 header, 2, 3 keys,
# 4 to 8 delivery (checkpoints 6 and 8), 9 to 15 management (11 and 15), 16 to 19 cosignatures, 20, 21 and 22 receipts.
FORGERIES: dict[str, Callable[[list[bytes]], object]] = {
    "line 9: management: entry 1 is missing": lambda lines: lines.pop(8),
    "line 7: delivery: entry 3 was altered": lambda lines: edit(lines, 7, hash=bytes(32).hex()),
    "line 5: delivery: entry 2 does not continue": lambda lines: edit(lines, 5, previous_hash=bytes(32).hex()),
    "line 6: delivery: checkpoint 2 has a signature": lambda lines: edit(lines, 6, signature=bytes(64).hex()),
    "line 6: delivery: checkpoint 2 is signed with": lambda lines: edit(lines, 6, key_id=key_id(PEER.public_key())),
    "line 7: delivery: checkpoint 2 was not signed for": lambda lines: lines.insert(6, lines.pop(5)),
    "line 14: management: entries 5 to 5 are missing": lambda lines: (lines.pop(14), lines.pop(13)),
    "line 15: management: no checkpoint covers entries 3": lambda lines: (lines.pop(14), lines.pop(17)),
    "line 17: delivery: the cosignature of sf-d10": lambda lines: edit(lines, 17, signature=bytes(64).hex()),
    "line 2: the key": lambda lines: edit(lines, 2, key=bytes(32).hex()),
    "line 21: the receipt of sf-d10 for 4 has": lambda lines: edit(lines, 21, signature=bytes(64).hex()),
    "line 22: the receipt of sf-d10 for 4 is out of": lambda lines: lines.insert(20, lines.pop(21)),
    "line 20: the checkpoint of sf-d10 for identity": lambda lines: edit(lines, 20, signature=bytes(64).hex()),
    "line 20: a line of kind key is out of place": lambda lines: lines.insert(19, lines[2]),
    "line 1: version 2": lambda lines: edit(lines, 1, version=2),
    "line 4: it is not in the form": lambda lines: edit(lines, 4, kind="another"),
    "line 4: a line must have the fields": lambda lines: edit(lines, 4, another=1),
}


@pytest.mark.parametrize("expected", FORGERIES)
def test_what_is_sealed_anew_is_still_checked_by_itself(expected: str) -> None:
    assert fault(made(FORGERIES[expected])).startswith(expected)


def test_an_entry_altered_with_its_hash_fails_at_the_checkpoint() -> None:
    def forge(lines: list[bytes]) -> None:
        last: Any = json.loads(lines[6])
        document = {**last["document"], "actor": "people/nobody"}
        edit(lines, 7, document=document, hash=chained(bytes.fromhex(last["previous_hash"]), document).hex())

    assert fault(made(forge)) == "line 8: delivery: checkpoint 3 was not signed for entry 3"


def test_a_log_that_was_signed_anew_fails_at_its_cosignature() -> None:
    """Whoever holds the node's key can rewrite the past, but not what the peers have signed of it."""
    cut = log("delivery", 2)

    def forge(lines: list[bytes]) -> None:
        edit(lines, 1, parts={**PARTS, "delivery": 2})
        lines[3:8] = cut

    expected = "line 15: delivery: sf-d10 cosigned another log: its checkpoint of 3 entries is not in this one"
    assert fault(made(forge)) == expected


def test_the_seal_is_the_nodes_own() -> None:
    lines = made()[:-1]
    assert "the seal is signed with a key that is not known of sf" in fault(sealed(lines, PEER))
    assert "the seal is of sf-d10" in fault(sealed(lines, node="sf-d10"))
    assert "the seal is on another content" in fault(sealed(lines, digest=bytes(32)))
    assert fault([]) == "line 1: the export ends without its seal"
    assert fault(lines).endswith("the export ends without its seal")


def test_keys_that_are_known_from_elsewhere_are_held_against() -> None:
    right = sha256(NODE.public_key().public_bytes_raw()).hexdigest()
    summary = verify(made(), {"sf": frozenset({right})})
    assert summary.unpinned == ["sf-d10"]
    assert f"sf has the key {right}, which is none of those" in fault(made(), pins={"sf": frozenset({"0" * 64})})
