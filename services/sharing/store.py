"""Products and contracts in PostgreSQL."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.sharing.model import Classification, Contract, Field, FieldType, Product, Source, Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection, Record
    from quintet.federation.v1.federation_pb2 import Terms

PRODUCTS_PARSED_MAX = 256

_PRODUCT = """p.name, p.node, p.title_zh, p.title_en, p.description_zh, p.description_en, p.owner, p.zone, p.version,
    p.fields, p.update_frequency, p.offered, p.source_fact, p.source_columns, p.source_where, p.row_count, p.rows_at"""

# ------------------------------------------------------------------------------------------------------------ products


async def get_product(conn: Connection, name: str) -> Product | None:
    row = await conn.fetchrow(f"SELECT {_PRODUCT} FROM products p WHERE p.name = $1", name)
    return _product(row) if row else None


async def lock_product(conn: Connection, name: str) -> Product | None:
    row = await conn.fetchrow(f"SELECT {_PRODUCT} FROM products p WHERE p.name = $1 FOR UPDATE", name)
    return _product(row) if row else None


async def put_product(conn: Connection, product: Product) -> None:
    """Create or replace a product; what it knows of its rows stays."""
    source = product.source
    await conn.execute(
        """INSERT INTO products (name, node, title_zh, title_en, description_zh, description_en, owner, zone, version,
            fields, update_frequency, offered, source_fact, source_columns, source_where)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        ON CONFLICT (name) DO UPDATE SET node = excluded.node, title_zh = excluded.title_zh,
            title_en = excluded.title_en, description_zh = excluded.description_zh,
            description_en = excluded.description_en, owner = excluded.owner, zone = excluded.zone,
            version = excluded.version, fields = excluded.fields, update_frequency = excluded.update_frequency,
            offered = excluded.offered, source_fact = excluded.source_fact,
            source_columns = excluded.source_columns, source_where = excluded.source_where""",
        product.name, product.node, product.title.zh, product.title.en, product.description.zh,
        product.description.en, product.owner, product.zone, product.version, _fields_json(product.fields),
        product.update_frequency, product.offered, source.fact if source else "",
        json.dumps(dict(source.columns) if source else {}), json.dumps(dict(source.where) if source else {}),
    )  # fmt: skip


async def list_products(
    conn: Connection,
    visibility: Visibility,
    *,
    node: str,
    root: str,
    offered_only: bool,
    after: str | None,
    limit: int,
) -> list[Product]:
    """Return the visible products by name. Those of other nodes than `node` count as of its own zone, `root`."""
    clause, values = visibility.clause(6, zone="placed.zone", organisation="p.owner")
    rows = await conn.fetch(
        f"""SELECT {_PRODUCT} FROM products p
        CROSS JOIN LATERAL (SELECT CASE WHEN p.node = $1 THEN p.zone ELSE $2 END AS zone) placed
        WHERE ($3::text IS NULL OR p.name > $3) AND (p.offered OR NOT $4) AND {clause}
        ORDER BY p.name LIMIT $5""",
        node, root, after, offered_only, limit, *values,
    )  # fmt: skip
    return [_product(row) for row in rows]


async def products_from(conn: Connection, fact: str) -> list[Product]:
    """Return the products whose rows come from facts of this type, locked against changes, by name."""
    rows = await conn.fetch(
        f"""SELECT {_PRODUCT} FROM products p WHERE p.source_fact = $1 AND p.source_fact <> ''
        ORDER BY p.name FOR NO KEY UPDATE""",
        fact,
    )
    return [_product(row) for row in rows]


def _product(row: Record) -> Product:
    source = None
    if row["source_fact"]:
        source = Source(row["source_fact"], json.loads(row["source_columns"]), json.loads(row["source_where"]))
    return Product(
        name=row["name"],
        node=row["node"],
        title=Text(row["title_zh"], row["title_en"]),
        description=Text(row["description_zh"], row["description_en"]),
        owner=row["owner"],
        zone=row["zone"],
        version=row["version"],
        fields=_fields(row["fields"]),
        update_frequency=row["update_frequency"],
        offered=row["offered"],
        source=source,
        rows=row["row_count"],
        updated_at=row["rows_at"],
    )


@lru_cache(maxsize=PRODUCTS_PARSED_MAX)
def _fields(text: str) -> tuple[Field, ...]:
    """Read fields; the same ones are read for every fact."""
    return tuple(_field(one) for one in json.loads(text))


def _field(found: dict[str, Any]) -> Field:
    return Field(
        name=found["name"],
        type=FieldType(found["type"]),
        title=Text(found["zh"], found["en"]),
        unit=found["unit"],
        classification=Classification(found["classification"]),
        personal=found["personal"],
        key=found["key"],
        subject=found.get("subject", False),
    )


def _fields_json(fields: Sequence[Field]) -> str:
    return json.dumps(
        [
            {
                "name": one.name, "type": one.type, "zh": one.title.zh, "en": one.title.en, "unit": one.unit,
                "classification": one.classification, "personal": one.personal, "key": one.key,
                "subject": one.subject,
            }
            for one in fields
        ]
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- contracts


async def put_contract(
    conn: Connection, contract: Contract, terms: Terms, *, provider: str, ended: bool, fact_id: str, now: datetime
) -> bool:
    """Store what federation last said of a contract. Returns False when something newer is stored already."""
    stored = await conn.fetchval(
        """INSERT INTO contracts (name, product, provider, version, fields, active, valid_from, valid_until, fact_id,
            updated_at, terms, retention_days, ended)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT (name) DO UPDATE SET product = excluded.product, provider = excluded.provider,
            version = excluded.version, fields = excluded.fields, active = excluded.active,
            valid_from = excluded.valid_from, valid_until = excluded.valid_until, fact_id = excluded.fact_id,
            updated_at = excluded.updated_at, terms = excluded.terms, retention_days = excluded.retention_days,
            ended = excluded.ended
        WHERE contracts.fact_id < excluded.fact_id
        RETURNING true""",
        contract.name, contract.product, provider, terms.product_version, sorted(contract.fields), contract.active,
        contract.valid_from, contract.valid_until, UUID(fact_id), now, terms.SerializeToString(), terms.retention_days,
        ended,
    )  # fmt: skip
    return bool(stored)


async def contracts_of(conn: Connection, product: str) -> list[Contract]:
    """Return the contracts under which a partner's product was ever held, the latest changed first."""
    rows = await conn.fetch(
        """SELECT name, product, fields, active, valid_from, valid_until FROM contracts WHERE product = $1
        ORDER BY fact_id DESC""",
        product,
    )
    return [
        Contract(
            row["name"], row["product"], frozenset(row["fields"]), row["active"], row["valid_from"], row["valid_until"]
        )
        for row in rows
    ]


async def has_ended(conn: Connection, contract: str) -> bool:
    """Say whether a contract is known here and has been terminated."""
    return bool(await conn.fetchval("SELECT ended FROM contracts WHERE name = $1", contract))
