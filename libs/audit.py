"""The audit log of a service: sealing its entries into a hash chain, and reading and verifying it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import structlog
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import Counter, Gauge

from libs import audit_store, db, paging
from libs.audit_chain import (
    START,
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
from libs.errors import Away
from libs.pending import SEALER_DUTY
from quintet.audit.v1 import audit_pb2, audit_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

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

SEALED = Counter("quintet_audit_sealed", "Audit entries linked into the hash chain.", ["part"])
CHAIN_LENGTH = Gauge("quintet_audit_chain_length", "Sequence of the last sealed audit entry.", ["part"])

log = structlog.get_logger()


class AuditSealer:
    """Gives the entries of one part their place in the chain and signs checkpoints. Replicas stand by."""

    def __init__(self, pool: Pool, clock: Clock, part: str, node: str, key: Ed25519PrivateKey) -> None:
        """`key` is the node's; its public half goes to AuditServicer."""
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
            await audit_store.add_checkpoint(conn, sign_checkpoint(self._key, self._node, self._part, head, now))


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Reads and verifies the log of the part whose transactions it is given."""

    def __init__(self, transactions: Transactions, keys: Sequence[Ed25519PublicKey]) -> None:
        """`keys` are the node's public keys, the present one and past ones that signed checkpoints."""
        self._transactions = transactions
        self._keys = {key_id(key): key for key in keys}

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

    async def _verify(self, conn: Connection) -> tuple[Verdict, int]:
        """Check all entries and checkpoints chunk by chunk; returns also how many entries are unsealed."""
        unsealed = await audit_store.count_unsealed(conn)
        head = START
        while entries := await audit_store.sealed(conn, head.sequence, VERIFY_CHUNK_ENTRIES):
            verdict = verify_chain(self._transactions.part, entries, head)
            if not verdict.fault:
                verdict = await self._verify_checkpoints(conn, entries, verdict)
            if verdict.fault:
                return verdict, unsealed
            head = verdict.head
        last_sequence, _ = await audit_store.last_checkpoint(conn)
        if last_sequence > head.sequence:
            return Verdict(head, f"entries {head.sequence + 1} to {last_sequence} are missing"), unsealed
        return Verdict(head), unsealed

    async def _verify_checkpoints(self, conn: Connection, entries: Sequence[Entry], verdict: Verdict) -> Verdict:
        heads = {entry.sequence: entry.hash for entry in entries}
        node, part = self._transactions.node, self._transactions.part
        for checkpoint in await audit_store.checkpoints(conn, entries[0].sequence, entries[-1].sequence):
            if fault := verify_checkpoint(checkpoint, node, part, self._keys, heads):
                return Verdict(verdict.head, fault)
        return verdict


def _message(part: str, entry: Entry) -> audit_pb2.AuditEntry:
    time = Timestamp()
    time.FromDatetime(entry.time)
    detail = Struct()
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
