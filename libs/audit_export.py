"""The evidence of a node in one file that a third party can check offline. docs/protocol.md, section Evidence, has it.

A file is lines of canonical JSON (RFC 8785), each ended by a line feed: a header, public keys, the audit log of each
part with its checkpoints, the peers' cosignatures, what the node itself has cosigned, the peers' receipts, and a seal:
the digest of all bytes before it, signed by the node. There is one form for one content: any byte that is changed is
noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from libs import canonical, merkle
from libs.audit_chain import KEY_ID_CHARS, key_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VERSION = 1
LINE_BYTES_MAX = 1024 * 1024
EXPORT_PREFIX = b"quintet-export-v1\0"
COSIGN_PREFIX = b"quintet-cosign-v1\0"
RECEIPT_PREFIX = b"quintet-receipt-v1\0"
# The kinds of lines in their order; entries and checkpoints alternate.
ORDER = {
    "export": 0, "key": 1, "entry": 2, "checkpoint": 2, "cosignature": 3, "peer_checkpoint": 4, "receipt": 5, "seal": 6,
}  # fmt: skip

Document = Mapping[str, canonical.JsonValue]


class Fault(Exception):
    """The first thing in an export that does not hold; the text says where and why."""


def line(kind: str, **fields: canonical.JsonValue) -> bytes:
    """Return one line, with its line feed."""
    return canonical.dumps({"kind": kind, **fields}) + b"\n"


@dataclass(frozen=True)
class Seal:
    """What the node signs of an export: who made it when, and the number and SHA-256 of the lines before the seal."""

    node: str
    exported_by: str
    time: str
    lines: int
    digest: bytes

    def signed(self, key: Ed25519PrivateKey) -> str:
        """Return the last line of the export, without its line feed."""
        signature = key.sign(EXPORT_PREFIX + canonical.dumps(self._document()))
        named: dict[str, canonical.JsonValue] = {"key_id": key_id(key.public_key()), "signature": signature.hex()}
        return canonical.dumps({**self._document(), **named}).decode()

    def _document(self) -> dict[str, canonical.JsonValue]:
        return {
            "kind": "seal",
            "node": self.node,
            "exported_by": self.exported_by,
            "time": self.time,
            "lines": self.lines,
            "digest": self.digest.hex(),
        }


@dataclass
class Summary:
    """What was checked. `keys` are SHA-256 of the public keys that were used, by node; `unpinned` the nodes whose keys
    were taken from the export itself.
    """

    node: str = ""
    exported_by: str = ""
    time: str = ""
    entries: dict[str, int] = field(default_factory=dict)
    checkpoints: int = 0
    cosignatures: dict[str, int] = field(default_factory=dict)
    peer_checkpoints: int = 0
    receipts: dict[str, int] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    unpinned: list[str] = field(default_factory=list)


@dataclass
class _Log:
    """How far the log of one part has been read. `signed` are the digests of the checkpoints' statements."""

    sequence: int = 0
    head: bytes = bytes(merkle.HASH_BYTES)
    tree: merkle.Frontier = field(default_factory=merkle.Frontier)
    covered: int = 0
    signed: set[bytes] = field(default_factory=set)


def lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file, one that is too long as far as it is looked at."""
    while text := file.readline(LINE_BYTES_MAX + 1):
        yield text


def verify(texts: Iterable[bytes], pins: Mapping[str, frozenset[str]] | None = None) -> Summary:
    """Check an export line by line, each with its line feed. Raises Fault at the first thing that does not hold.

    `pins` are, by node, SHA-256 of public keys in hex, known from elsewhere: a node named there may use no other.
    Memory is bounded by the number of checkpoints, not of entries.
    """
    checker = _Checker(pins or {})
    number = 0
    for number, text in enumerate(texts, start=1):
        try:
            checker.take(text)
        except Fault as fault:
            raise Fault(f"line {number}: {fault}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DecodeError) as error:
            raise Fault(f"line {number}: it is not in the form of an export") from error
    if not checker.sealed:
        raise Fault(f"line {number + 1}: the export ends without its seal")
    return checker.summary


class _Checker:
    """Takes the lines of an export in their order."""

    def __init__(self, pins: Mapping[str, frozenset[str]]) -> None:
        self.summary = Summary()
        self.sealed = False
        self._pins = pins
        self._keys: dict[str, dict[str, Ed25519PublicKey]] = {}
        self._sizes: dict[str, int] = {}
        self._logs: dict[str, _Log] = {}
        self._digest = hashlib.sha256()
        self._lines = 0
        self._stage = -1
        self._part = ""
        self._positions: dict[tuple[str, str, int], int] = {}
        self._takers: dict[str, Callable[[Any], None]] = {
            "export": self._header,
            "key": self._key,
            "entry": self._entry,
            "checkpoint": self._checkpoint,
            "cosignature": self._cosignature,
            "peer_checkpoint": self._peer_checkpoint,
            "receipt": self._receipt,
            "seal": self._seal,
        }

    def take(self, text: bytes) -> None:
        """Take the next line."""
        if self.sealed:
            raise Fault("something follows the seal")
        if len(text) > LINE_BYTES_MAX or not text.endswith(b"\n"):
            raise Fault(f"a line must end, within {LINE_BYTES_MAX} bytes")
        document: Any = canonical.loads(text)
        kind = document["kind"]
        stage = ORDER[kind]
        if stage < self._stage or (stage == 0) != (self._stage == -1):
            raise Fault(f"a line of kind {kind} is out of place")
        if self._stage <= ORDER["entry"] < stage:
            self._logs_are_whole()
        self._stage = stage
        self._takers[kind](document)
        # An entry is compared with its form by its taker, which has made it anyway.
        if kind != "entry" and canonical.dumps(document) + b"\n" != text:
            raise Fault("the line is not canonical")
        if kind == "entry" and self._form != text:
            raise Fault("the line is not canonical")
        self._digest.update(text)
        self._lines += 1

    _form = b""

    def _header(self, document: Any) -> None:
        _only(document, "version", "node", "parts")
        if document["version"] != VERSION:
            raise Fault(f"version {document['version']} of the format is not known")
        self.summary.node = document["node"]
        self._sizes = {part: _whole(size) for part, size in document["parts"].items()}

    def _key(self, document: Any) -> None:
        _only(document, "node", "key_id", "key")
        node, raw = document["node"], _hex(document["key"])
        fingerprint = hashlib.sha256(raw).hexdigest()
        known = self._keys.setdefault(node, {})
        if document["key_id"] != fingerprint[:KEY_ID_CHARS] or document["key_id"] in known:
            raise Fault(f"the key {document['key_id']} of {node} does not have its name")
        if node in self._pins and fingerprint not in self._pins[node]:
            raise Fault(f"{node} has the key {fingerprint}, which is none of those that were given")
        if node not in self._pins and node not in self.summary.unpinned:
            self.summary.unpinned.append(node)
        known[document["key_id"]] = Ed25519PublicKey.from_public_bytes(raw)
        self.summary.keys.setdefault(node, []).append(fingerprint)

    def _entry(self, document: Any) -> None:
        _only(document, "document", "hash", "previous_hash")
        content = document["document"]
        _only(content, "part", "sequence", "time", "actor", "action", "resource", "detail", "trace_id", kind=False)
        part = content["part"]
        log = self._log(part)
        sequence = log.sequence + 1
        if content["sequence"] != sequence:
            raise Fault(f"{part}: entry {sequence} is missing")
        if _hex(document["previous_hash"]) != log.head:
            raise Fault(f"{part}: entry {sequence} does not continue entry {log.sequence}")
        form = canonical.dumps(content)
        computed = hashlib.sha256(log.head + form).digest()
        if _hex(document["hash"]) != computed:
            raise Fault(f"{part}: entry {sequence} was altered: its hash does not match its content")
        self._form = b'{"document":%b,"hash":"%b","kind":"entry","previous_hash":"%b"}\n' % (
            form, computed.hex().encode(), log.head.hex().encode(),
        )  # fmt: skip
        log.sequence, log.head, log.tree = sequence, computed, log.tree.append(merkle.leaf_hash(computed))
        self.summary.entries[part] = sequence

    def _checkpoint(self, document: Any) -> None:
        _only(document, "statement", "key_id", "signature")
        says: Any = canonical.loads(document["statement"])
        part, size = says["part"], says["sequence"]
        log, where = self._log(part), f"{part}: checkpoint {size}"
        self._signed(self.summary.node, document, document["statement"].encode(), where)
        if says["node"] != self.summary.node or size != log.sequence or says["head"] != log.head.hex():
            raise Fault(f"{where} was not signed for entry {log.sequence}")
        # Those signed before there was a tree have no root.
        if says.get("root", log.tree.root().hex()) != log.tree.root().hex():
            raise Fault(f"{where} was not signed for the entries up to {log.sequence}")
        log.covered = size
        log.signed.add(hashlib.sha256(document["statement"].encode()).digest())
        self.summary.checkpoints += 1

    def _cosignature(self, document: Any) -> None:
        _only(document, "node", "statement", "key_id", "signature")
        node, statement = document["node"], document["statement"]
        says: Any = canonical.loads(statement)
        part, size = says["part"], says["sequence"]
        where = f"{part}: the cosignature of {node} on checkpoint {size}"
        self._signed(node, document, COSIGN_PREFIX + statement.encode(), where)
        log = self._logs.get(part)
        if log is None or hashlib.sha256(statement.encode()).digest() not in log.signed:
            raise Fault(f"{part}: {node} cosigned another log: its checkpoint of {size} entries is not in this one")
        self.summary.cosignatures[node] = self.summary.cosignatures.get(node, 0) + 1

    def _peer_checkpoint(self, document: Any) -> None:
        _only(document, "statement", "key_id", "signature")
        says: Any = canonical.loads(document["statement"])
        node = says["node"]
        where = f"the checkpoint of {node} for {says['part']}"
        self._signed(node, document, document["statement"].encode(), where)
        self.summary.peer_checkpoints += 1

    def _receipt(self, document: Any) -> None:
        from quintet.federation.v1 import link_pb2

        _only(document, "receipt", "key_id", "signature")
        data = _hex(document["receipt"])
        receipt = link_pb2.Receipt.FromString(data)
        node = receipt.receiver
        where = f"the receipt of {node} for {receipt.sequence}"
        self._signed(node, document, RECEIPT_PREFIX + data, where)
        if receipt.sender != self.summary.node:
            raise Fault(f"{where} is for {receipt.sender}")
        lane = (node, receipt.epoch, receipt.lane)
        if receipt.sequence < self._positions.get(lane, 0):
            raise Fault(f"{where} is out of order")
        self._positions[lane] = receipt.sequence
        self.summary.receipts[node] = self.summary.receipts.get(node, 0) + 1

    def _seal(self, document: Any) -> None:
        _only(document, "node", "exported_by", "time", "lines", "digest", "key_id", "signature")
        if document["digest"] != self._digest.hexdigest() or document["lines"] != self._lines:
            raise Fault("the seal is on another content: something before it was changed")
        content = {name: document[name] for name in document if name not in {"key_id", "signature"}}
        self._signed(self.summary.node, document, EXPORT_PREFIX + canonical.dumps(content), "the seal")
        if document["node"] != self.summary.node:
            raise Fault(f"the seal is of {document['node']}")
        self.summary.exported_by, self.summary.time = document["exported_by"], document["time"]
        self.sealed = True

    def _log(self, part: str) -> _Log:
        """Return the log of a part; the parts come one after the other."""
        if part != self._part:
            if part not in self._sizes or part in self._logs:
                raise Fault(f"the log of {part} is out of place")
            self._part = part
        return self._logs.setdefault(part, _Log())

    def _logs_are_whole(self) -> None:
        for part, size in self._sizes.items():
            log = self._logs.get(part, _Log())
            if log.sequence != size:
                raise Fault(f"{part}: entries {log.sequence + 1} to {size} are missing")
            if log.covered != size:
                raise Fault(f"{part}: no checkpoint covers entries {log.covered + 1} to {size}")

    def _signed(self, node: str, document: Any, message: bytes, where: str) -> None:
        key = self._keys.get(node, {}).get(document["key_id"])
        if key is None:
            raise Fault(f"{where} is signed with a key that is not known of {node}")
        try:
            key.verify(_hex(document["signature"]), message)
        except InvalidSignature:
            raise Fault(f"{where} has a signature that does not hold") from None


def _only(document: Any, *names: str, kind: bool = True) -> None:
    if set(document) != {*names, *(["kind"] if kind else [])}:
        raise Fault(f"a line must have the fields {', '.join(names)}")


def _hex(text: str) -> bytes:
    """Read lower-case hex: one form for one value."""
    data = bytes.fromhex(text)
    if data.hex() != text:
        raise Fault("hex digits must be in lower case")
    return data


def _whole(size: Any) -> int:
    if type(size) is not int or size < 0:
        raise Fault("the size of a log must be a whole number")
    return size
