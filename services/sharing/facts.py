"""What sharing makes of facts: rows of its own products, rows of partners' products, and which contracts stand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, cast

import structlog
from prometheus_client import Counter

from libs import masking
from libs import rows as blocks
from libs.ids import new_id
from quintet.federation.v1.facts_pb2 import ContractChanged, TransferChanged
from quintet.federation.v1.federation_pb2 import (
    CONTRACT_KIND_EXCHANGE,
    CONTRACT_STATE_FINALIZED,
    CONTRACT_STATE_TERMINATED,
    DELIVERY_MODE_PULL,
    TRANSFER_STATE_STARTED,
)
from quintet.perception.v1.facts_pb2 import DailyAggregateComputed
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten
from services.sharing import store, store_days, store_deletions, store_flows, store_held, store_rows
from services.sharing.model import (
    Classification,
    Contract,
    Field,
    FieldType,
    Product,
    Text,
    check_row,
    held_name,
    key_of,
    type_of,
)
from services.sharing.publisher import first_due
from services.sharing.source import Extraction, extraction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from libs.canonical import JsonValue
    from libs.inbox import Handler
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.federation.v1.federation_pb2 import Contract as ContractMessage

# The facts that a product may be made from. A type that is added here is also subscribed to.
SOURCES: tuple[type[Message], ...] = (DailyAggregateComputed,)
SOURCE_TYPES = {kind.DESCRIPTOR.full_name: cast("Descriptor", kind.DESCRIPTOR) for kind in SOURCES}

ROWS = Counter("quintet_sharing_rows", "Rows that facts brought.", ["result"])

log = structlog.get_logger()


class Facts:
    """The handlers. `zones` gives the present tree; `node` is this node's id."""

    def __init__(self, node: str, zones: Callable[[], ZoneTree]) -> None:
        self._node = node
        self._zones = zones
        # By name, with the product that it was made for: the next fact most often finds it unchanged.
        self._extractions: dict[str, tuple[Product, Extraction]] = {}

    def handlers(self) -> dict[type[Message], Handler]:
        return {
            **dict.fromkeys(SOURCES, self.on_source),
            ProductRowsWritten: self.on_rows_written,
            ContractChanged: self.on_contract_changed,
            TransferChanged: self.on_transfer_changed,
        }

    async def on_source(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Write the row of every product that this fact is a source of. Facts of other nodes are none of ours."""
        if fact.received_from:
            return
        tree = self._zones()
        for product in await store.products_from(tx.conn, fact.type):
            if not tree.covers(product.zone, fact.zone):
                continue
            row = self._extraction(product).row(message)
            if row is not None:
                await _write(tx, fact, product, row)

    def _extraction(self, product: Product) -> Extraction:
        before, found = self._extractions.get(product.name, (None, None))
        if found is None or before is None or (before.fields, before.source) != (product.fields, product.source):
            found = extraction(product, SOURCE_TYPES)
            self._extractions[product.name] = (product, found)
        return found

    async def on_rows_written(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Keep what a partner sent. Federation let it in under the contract that the fact names."""
        if not isinstance(message, ProductRowsWritten) or not fact.received_from:
            return
        await store_days.note(tx.conn, fact, message.count, tx.now)
        if await store.has_ended(tx.conn, fact.contract):
            # It came, and nothing of it is kept: that is said like any deletion.
            await store_deletions.begin(tx.conn, new_id(), fact.contract, "TERMINATED")
            ROWS.labels("refused").inc(message.count)
            tx.audit("sharing.rows.refuse", message.product, contract=fact.contract, rows=message.count)
            return
        product = await self._held(tx, fact.received_from, message, fact.zone)
        held = store_held.Held(product.name, fact.contract, product.version, fact.zone, fact.id)
        rows, fields, whole = message.rows.decode(), list(message.fields), message.snapshot
        if message.HasField("snapshot"):
            changed = await store_held.replace_counts(
                tx.conn, held, whole.id, whole.part, rows, fields, last=whole.last, now=tx.now
            )
        else:
            changed = await store_held.write_block(tx.conn, held, rows, fields, message.key_fields, now=tx.now)
        ROWS.labels("changed").inc(changed)
        ROWS.labels("unchanged").inc(max(0, message.count - changed))
        tx.audit("sharing.rows.receive", product.name, contract=fact.contract, rows=message.count, changed=changed)

    async def on_contract_changed(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Follow the contracts under which this node receives a product."""
        # Only this node's own federation says which contracts stand here.
        if not isinstance(message, ContractChanged) or fact.received_from:
            return
        stated = message.contract
        if stated.kind == CONTRACT_KIND_EXCHANGE and stated.provider == self._node:
            await _follow_flow(tx, fact, stated)
        if stated.kind != CONTRACT_KIND_EXCHANGE or stated.consumer != self._node:
            return
        contract, ended = _contract(stated), stated.state == CONTRACT_STATE_TERMINATED
        if not await store.put_contract(
            tx.conn, contract, stated.terms, provider=stated.provider, ended=ended, fact_id=fact.id, now=tx.now
        ):
            return
        if contract.active:
            await self._hold(tx, stated, contract)
        elif ended:
            await _let_go(tx, stated)
        tx.audit("sharing.contracts.follow", contract.name, product=contract.product, active=contract.active)

    async def on_transfer_changed(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Let the rows of a contract flow, from the first on, or stand still, as federation says of its transfer."""
        if not isinstance(message, TransferChanged) or fact.received_from:
            return
        transfer = message.transfer
        if transfer.provider == self._node:
            running = transfer.state == TRANSFER_STATE_STARTED
            await store_flows.run(tx.conn, transfer.contract, running=running)

    async def _hold(self, tx: Tx, stated: ContractMessage, contract: Contract) -> None:
        """Put the product into the catalogue, or bring it up to the contract."""
        before = await store.lock_product(tx.conn, contract.product)
        product = before or _unknown(contract.product, stated.provider, stated.terms.product)
        fields = _merged(product.fields, dict.fromkeys(sorted(contract.fields), FieldType.UNKNOWN), ())
        wanted = replace(
            product,
            zone=stated.terms.zone or product.zone,
            version=max(stated.terms.product_version, product.version),
            fields=fields,
        )
        if wanted != before:
            await store.put_product(tx.conn, wanted)

    async def _held(self, tx: Tx, peer: str, message: ProductRowsWritten, zone: str) -> Product:
        """Return the partner's product; what its rows teach of its fields is noted."""
        name = held_name(peer, message.product)
        before = await store.lock_product(tx.conn, name)
        product = before or replace(_unknown(name, peer, message.product), zone=zone)
        fields = _merged(product.fields, _types(product, message), message.key_fields)
        wanted = replace(product, version=max(message.version, product.version), fields=fields)
        if wanted != before:
            await store.put_product(tx.conn, wanted)
        return wanted


async def _write(tx: Tx, fact: Fact, product: Product, row: Mapping[str, JsonValue]) -> None:
    """Write a row; one that no product can hold is counted and logged."""
    try:
        texts = {key_of(row, product.key_fields): check_row(row)}
    except ValueError as error:
        ROWS.labels("refused").inc()
        log.warning("sharing.row_refused", product=product.name, fact=fact.id, error=str(error))
        return
    changed = await store_rows.write_rows(
        tx.conn, texts, product=product.name, version=product.version, zone=fact.zone, fact_id=fact.id, now=tx.now
    )
    ROWS.labels("changed").inc(changed)
    ROWS.labels("unchanged").inc(len(texts) - changed)


async def _follow_flow(tx: Tx, fact: Fact, stated: ContractMessage) -> None:
    """Follow a contract under which this node provides rows."""
    terms = stated.terms
    await store_flows.put(
        tx.conn,
        stated.name,
        terms,
        active=_in_force(stated),
        next_at=None if terms.mode == DELIVERY_MODE_PULL else first_due(terms, tx.now),
        fact_id=fact.id,
        now=tx.now,
    )


async def _let_go(tx: Tx, stated: ContractMessage) -> None:
    """Rows of a contract that has ended go, unless its successor gives just the same."""
    successor, reason = stated.superseded_by, "SUPERSEDED" if stated.superseded_by else "TERMINATED"
    if successor and not await store_deletions.is_takeover(tx.conn, stated.name, successor):
        successor = ""
    await store_deletions.begin(tx.conn, new_id(), stated.name, reason, successor=successor)


def _in_force(stated: ContractMessage) -> bool:
    return stated.state == CONTRACT_STATE_FINALIZED and not stated.awaits_switch and not stated.superseded_by


def _contract(stated: ContractMessage) -> Contract:
    terms = stated.terms
    counted = [terms.aggregation.count_field] if terms.HasField("aggregation") else []
    return Contract(
        name=stated.name,
        product=held_name(stated.provider, terms.product),
        fields=frozenset([*masking.given(terms.fields), *counted]),
        active=_in_force(stated),
        valid_from=terms.valid_from.ToDatetime(UTC) if terms.HasField("valid_from") else None,
        valid_until=terms.valid_until.ToDatetime(UTC) if terms.HasField("valid_until") else None,
    )


def _unknown(name: str, node: str, called: str) -> Product:
    """Return a partner's product of which only its name is known: `name` here, `called` there."""
    title = called.removeprefix("products/")
    return Product(name, node, Text(title, title), Text(), owner="", zone="", version=1, fields=())


def _types(product: Product, message: ProductRowsWritten) -> dict[str, FieldType]:
    """Return what the rows teach of fields whose type is not known; mostly all are, and the rows are not looked at."""
    known = {one.name for one in product.fields if one.type}
    unknown = [place for place, name in enumerate(message.fields) if name not in known]
    if not unknown:
        return {}
    found = {message.fields[place]: FieldType.UNKNOWN for place in unknown}
    columns = blocks.columns(blocks.loads(message.rows, len(message.fields)), len(message.fields))
    for place in unknown:
        value = next((value for value in columns[place] if value is not None), None)
        found[message.fields[place]] = type_of(value)
    return found


def _merged(fields: Sequence[Field], types: Mapping[str, FieldType], key_fields: Sequence[str]) -> tuple[Field, ...]:
    """Return the fields with what was learnt: new ones, types that were not known, which of them are keys.

    A partner's data was given for a purpose, so it counts as INTERNAL; what is personal in it the partner has masked.
    """
    known = {one.name: one for one in fields}
    for name in dict.fromkeys((*key_fields, *types)):
        found = known.get(name, Field(name, FieldType.UNKNOWN, classification=Classification.INTERNAL))
        kind = found.type or types.get(name, FieldType.UNKNOWN)
        known[name] = replace(found, type=kind, key=found.key or name in key_fields)
    return tuple(known.values())
