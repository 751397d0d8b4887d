"""The audit log of a service: sealing its entries into a hash chain, and reading and verifying it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import structlog
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import Counter, Gauge

from libs import audit_store, audit_tree, db, merkle, paging
from libs.audit_chain import (
    START,
    Checkpoint,
    Entry,
    Head,
    Verdict,
    extend,
    key_id,
    sign_checkpoint,
    verify_chain,
    verify_checkpoint,
)
from libs.backoff import Backoff
from libs.duty import Duty, on_duty
from libs.errors import Away, Invalid, NotFound, Reason, WrongState
from libs.pending import SEALER_DUTY
from quintet.audit.v1 import audit_pb2, audit_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from libs.clock import Clock
    from libs.db import Connection, Pool
    from libs.tx import Transactions

SEAL_BATCH_ENTRIES = 500
# Entries gather for this long, so that a busy service seals by the batch.
SEAL_INTERVAL_S = 0.2
SEAL_POLL_S = 5.0
CHECKPOINT_ENTRIES = 1_000
CHECKPOINT_S = 60.0
RETRY_DELAY_FIRST_S = 0.1
RETRY_DELAY_MAX_S = 10.0
# Small enough to leave the event loop to others between chunks.
VERIFY_CHUNK_ENTRIES = 500
SEQUENCE_MAX = 2**63 - 1

SEALED = Counter("quintet_audit_sealed", "Audit entries linked into the hash chain.", ["part"])
CHAIN_LENGTH = Gauge("quintet_audit_chain_length", "Sequence of the last sealed audit entry.", ["part"])

T = TypeVar("T")

log = structlog.get_logger()


class AuditSealer:
    """Gives the entries of one part their place in the chain and signs checkpoints. Replicas stand by."""

    def __init__(self, pool: Pool, clock: Clock, part: str, node: str, key: Callable[[], Ed25519PrivateKey]) -> None:
        """`key` gives the node's present one; its public half goes to AuditServicer."""
        self._pool = pool
        self._clock = clock
        self._part = part
        self._node = node
        self._key = key

    async def run(self) -> None:
        """Seal until cancelled, through interruptions of the database."""
        backoff = Backoff(RETRY_DELAY_FIRST_S, RETRY_DELAY_MAX_S)
        while True:
            try:
                async with on_duty(self._pool, SEALER_DUTY, listen=True) as duty:
                    await self._serve(duty, backoff)
            except Exception as error:
                if isinstance(error, Away) or db.is_away(error):
                    log.warning("audit.interrupted", part=self._part, error=repr(error))
                else:
                    log.exception("audit.failed", part=self._part)
            await backoff.wait()

    async def seal_all(self, conn: Connection) -> Head:
        """Seal what is there, sign a checkpoint, and return the head: for a service that stops, and for tests.

        The caller makes sure that no sealer runs.
        """
        while await self._seal(conn) == SEAL_BATCH_ENTRIES:
            pass
        await self._checkpoint(conn, at_once=True)
        return await audit_store.head(conn)

    async def _serve(self, duty: Duty, backoff: Backoff) -> None:
        while True:
            duty.check()
            sealed = await self._seal(duty.conn)
            await self._checkpoint(duty.conn)
            backoff.reset()
            if sealed == SEAL_BATCH_ENTRIES:
                continue
            if not sealed:
                await duty.wait(SEAL_POLL_S)
            await asyncio.sleep(SEAL_INTERVAL_S)

    async def _seal(self, conn: Connection) -> int:
        """Seal up to a batch in order of id and return how many.

        Entries that commit later with a lower id come into a later batch: the chain says in which order they were
        sealed, not in which they were made.
        """
        async with conn.transaction():
            head = await audit_store.head(conn)
            entries = await audit_store.unsealed(conn, SEAL_BATCH_ENTRIES)
            places: list[tuple[int, int, bytes, bytes]] = []
            for entry_id, entry in entries:
                following = extend(self._part, head, entry)
                places.append((entry_id, following.sequence, head.hash, following.hash))
                head = following
            await audit_store.seal(conn, places)
        if entries:
            SEALED.labels(self._part).inc(len(entries))
            CHAIN_LENGTH.labels(self._part).set(head.sequence)
        return len(entries)

    async def _checkpoint(self, conn: Connection, *, at_once: bool = False) -> None:
        head = await audit_store.head(conn)
        last_sequence, last_time = await audit_store.last_checkpoint(conn)
        now = self._clock.now()
        grown = head.sequence - last_sequence
        old = last_time is None or (now - last_time).total_seconds() >= CHECKPOINT_S
        if grown >= CHECKPOINT_ENTRIES or (grown > 0 and (old or at_once)):
            await _sign(conn, self._key(), self._node, self._part, now)


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Reads, proves and verifies the log of the part whose transactions it is given."""

    def __init__(
        self,
        transactions: Transactions,
        keys: Callable[[], Sequence[Ed25519PublicKey]],
        key: Callable[[], Ed25519PrivateKey] | None = None,
    ) -> None:
        """`keys` gives the node's public keys, the present one and past ones that signed checkpoints.

        `key` gives the node's present key; without it no checkpoint is signed at once.
        """
        self._transactions = transactions
        self._public_keys = keys
        self._key = key

    async def ListAuditEntries(
        self, request: audit_pb2.ListAuditEntriesRequest, _context: object
    ) -> audit_pb2.ListAuditEntriesResponse:
        part = self._transactions.part
        listed = f"audit {part} {request.resource} {request.actor}"
        after = paging.after(request.page_token, int, of=listed)
        size = paging.size(request.page_size)
        entries = await self._transactions.read(
            lambda conn: audit_store.sealed(
                conn, after[0] if after else 0, size + 1, resource=request.resource, actor=request.actor
            )
        )
        page, token = paging.page(entries, size, lambda entry: (entry.sequence,), of=listed)
        return audit_pb2.ListAuditEntriesResponse(entries=[_message(part, e) for e in page], next_page_token=token)

    async def ListCheckpoints(
        self, request: audit_pb2.ListCheckpointsRequest, _context: object
    ) -> audit_pb2.ListCheckpointsResponse:
        part = self._transactions.part
        listed = f"checkpoints {part}"
        after = paging.after(request.page_token, int, of=listed)
        size = paging.size(request.page_size)
        found = await self._transactions.read(
            lambda conn: audit_store.checkpoints(conn, after[0] + 1 if after else 1, SEQUENCE_MAX, size + 1)
        )
        page, token = paging.page(found, size, lambda checkpoint: (checkpoint.sequence,), of=listed)
        checkpoints = [_checkpoint_message(part, each) for each in page]
        return audit_pb2.ListCheckpointsResponse(checkpoints=checkpoints, next_page_token=token)

    async def GetCheckpoint(
        self, request: audit_pb2.GetCheckpointRequest, _context: object
    ) -> audit_pb2.GetCheckpointResponse:
        key = self._key
        if request.at_once and key is not None:
            node, part = self._transactions.node, self._transactions.part
            try:
                await self._transactions.run(lambda tx: _sign(tx.conn, key(), node, part, tx.now))
            except LookupError as error:
                raise _torn(part) from error
        found = await self._transactions.read(audit_store.newest_checkpoint)
        response = audit_pb2.GetCheckpointResponse()
        if found is not None:
            response.checkpoint.CopyFrom(_checkpoint_message(self._transactions.part, found))
        return response

    async def GetConsistencyProof(
        self, request: audit_pb2.GetConsistencyProofRequest, _context: object
    ) -> audit_pb2.GetConsistencyProofResponse:
        async def read(conn: Connection) -> audit_pb2.GetConsistencyProofResponse:
            second = await _size(conn, request.second, "second")
            if request.first > second:
                raise Invalid("first", f"must be at most second, {second}")
            return audit_pb2.GetConsistencyProofResponse(
                first=request.first,
                second=second,
                first_root=await audit_tree.root(conn, request.first),
                second_root=await audit_tree.root(conn, second),
                proof=await audit_tree.consistency_proof(conn, request.first, second),
            )

        return await self._prove(read)

    async def GetInclusionProof(
        self, request: audit_pb2.GetInclusionProofRequest, _context: object
    ) -> audit_pb2.GetInclusionProofResponse:
        part = self._transactions.part

        async def read(conn: Connection) -> audit_pb2.GetInclusionProofResponse:
            size = await _size(conn, request.size, "size")
            if request.sequence > size:
                raise NotFound(
                    Reason.AUDIT_ENTRY_NOT_FOUND, f"entry {request.sequence} is not in the log of {size} entries"
                )
            entries = await audit_store.sealed(conn, request.sequence - 1, 1)
            if not entries or entries[0].sequence != request.sequence:
                raise LookupError(f"entry {request.sequence} is missing")
            response = audit_pb2.GetInclusionProofResponse(
                entry=_message(part, entries[0]),
                size=size,
                root=await audit_tree.root(conn, size),
                proof=await audit_tree.inclusion_proof(conn, request.sequence - 1, size),
            )
            for checkpoint in await audit_store.checkpoints(conn, size, size):
                response.checkpoint.CopyFrom(_checkpoint_message(part, checkpoint))
            return response

        return await self._prove(read)

    async def VerifyAuditLog(
        self, _request: audit_pb2.VerifyAuditLogRequest, _context: object
    ) -> audit_pb2.VerifyAuditLogResponse:
        verdict, unsealed = await self._transactions.read(self._verify)
        return audit_pb2.VerifyAuditLogResponse(
            part=self._transactions.part,
            entries=verdict.head.sequence,
            unsealed=unsealed,
            verified=not verdict.fault,
            fault=verdict.fault,
            head=verdict.head.hash,
        )

    async def _prove(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self._transactions.read(read)
        except LookupError as error:
            raise _torn(self._transactions.part) from error

    async def _verify(self, conn: Connection) -> tuple[Verdict, int]:
        """Check all entries, nodes and checkpoints chunk by chunk; returns also how many entries are unsealed."""
        unsealed = await audit_store.count_unsealed(conn)
        head, tree = START, _Tree()
        while entries := await audit_store.sealed(conn, head.sequence, VERIFY_CHUNK_ENTRIES):
            verdict = verify_chain(self._transactions.part, entries, head)
            if not verdict.fault:
                verdict = await self._verify_tree(conn, entries, tree, verdict)
            if verdict.fault:
                return verdict, unsealed
            head = verdict.head
        last_sequence, _ = await audit_store.last_checkpoint(conn)
        fault = f"entries {head.sequence + 1} to {last_sequence} are missing" if last_sequence > head.sequence else ""
        return Verdict(head, fault or await audit_store.strays(conn, head.sequence)), unsealed

    async def _verify_tree(self, conn: Connection, entries: Sequence[Entry], tree: _Tree, verdict: Verdict) -> Verdict:
        node, part = self._transactions.node, self._transactions.part
        checkpoints = await audit_store.checkpoints(conn, entries[0].sequence, entries[-1].sequence)
        signed = {checkpoint.sequence: checkpoint for checkpoint in checkpoints}
        keys = {key_id(each): each for each in self._public_keys()}
        completed: dict[tuple[int, int], bytes] = {}
        for entry in entries:
            completed |= tree.append(entry.hash)
            if checkpoint := signed.get(entry.sequence):
                root = tree.frontier.root()
                if fault := verify_checkpoint(checkpoint, node, part, keys, entry.hash, root):
                    return Verdict(verdict.head, fault)
        if completed:
            kept = await audit_tree.tiles(conn, completed)
            last_sequence, _ = await audit_store.last_checkpoint(conn)
            for (level, index), expected in completed.items():
                # A node is kept at the latest with the checkpoint behind it.
                if kept.get((level, index), None if (index + 1) << level <= last_sequence else expected) != expected:
                    return Verdict(verdict.head, f"node {level}/{index} of the tree is not the one over its entries")
        return verdict


class _Tree:
    """The tree of a log that is read from its beginning."""

    def __init__(self) -> None:
        self.frontier = merkle.Frontier()
        self._tiles = audit_tree.Tiles()

    def append(self, entry_hash: bytes) -> dict[tuple[int, int], bytes]:
        """Take in the next entry; returns the nodes, of those that are kept, that it completes."""
        leaf = merkle.leaf_hash(entry_hash)
        self.frontier = self.frontier.append(leaf)
        return {(level, index): hash_ for level, index, hash_ in self._tiles.append(leaf)}


async def _sign(conn: Connection, key: Ed25519PrivateKey, node: str, part: str, now: datetime) -> None:
    """Sign a checkpoint of what is sealed. Raises LookupError when the log is not whole."""
    head = await audit_store.head(conn)
    last_sequence, _ = await audit_store.last_checkpoint(conn)
    if head.sequence > last_sequence:
        await audit_tree.grow(conn, head.sequence)
        root = await audit_tree.root(conn, head.sequence)
        await audit_store.add_checkpoint(conn, sign_checkpoint(key, node, part, head, root, now))


async def _size(conn: Connection, asked: int, field: str) -> int:
    """Return the size of the log that is asked for; 0 is that of the newest checkpoint, which no other may pass."""
    newest, _ = await audit_store.last_checkpoint(conn)
    if asked > newest:
        raise Invalid(field, f"must be at most {newest}, the size of the newest checkpoint")
    return asked or newest


def _torn(part: str) -> WrongState:
    return WrongState(Reason.AUDIT_LOG_TORN, f"the audit log of {part} is not whole: have it verified", part=part)


def _checkpoint_message(part: str, checkpoint: Checkpoint) -> audit_pb2.Checkpoint:
    message = audit_pb2.Checkpoint(
        part=part,
        size=checkpoint.sequence,
        head=checkpoint.head,
        root=checkpoint.root,
        statement=checkpoint.statement,
        key_id=checkpoint.key_id,
        signature=checkpoint.signature,
    )
    message.time.FromDatetime(checkpoint.time)
    return message


def _message(part: str, entry: Entry) -> audit_pb2.AuditEntry:
    time = Timestamp()
    time.FromDatetime(entry.time)
    detail = Struct()
    # What was never written by a service, somebody else wrote into the tables: it is shown without, and fails when the
    # chain is verified.
    with suppress(ParseError, ValueError):
        ParseDict(json.loads(entry.detail), detail)
    return audit_pb2.AuditEntry(
        part=part,
        sequence=entry.sequence,
        time=time,
        actor=entry.actor,
        action=entry.action,
        resource=entry.resource,
        detail=detail,
        trace_id=entry.trace_id,
        previous_hash=entry.previous_hash,
        hash=entry.hash,
    )
