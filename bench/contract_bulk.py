"""Rows per second of a large data product under a contract: three of ten fields, one of them hashed, and a row filter.

The product's rows are put into the provider's table with SQL, which is not measured. All that follows is: a contract
comes into force, its rows are chosen, projected, stated, filtered and masked once more, sent, checked, and written to
the consumer's table. Counted are the rows that arrive there.
"""

from __future__ import annotations

import asyncio
import io
from time import perf_counter
from typing import TYPE_CHECKING

from bench.pair import CITY, DISTRICT, DISTRICT_ZONE, Pair, pair
from bench.record import RUNS, Measured, middle, rounded
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2 as sharing

if TYPE_CHECKING:
    from pathlib import Path

    from quintet_sdk import Client

ROWS = 1_000_000
# One row in ten is not what the contract is about.
ROWS_GIVEN = ROWS * 9 // 10
LIMIT_PER_S = 50_000.0
PRODUCT = "products/bulk"
HELD = f"products/{DISTRICT}.bulk"
GIVEN = ("id", "day", "value")
POLL_S = 0.05
WITHIN_S = 900.0

FILL = """
WITH filled AS (
    INSERT INTO sharing.rows (product, contract, key, row, version, zone, fact_id, updated_at, change)
    SELECT $1, '', format('["r-%s"]', n),
        jsonb_build_object('id', 'r-' || n, 'day', (date '2026-01-01' + n % 365)::text, 'value', n % 1000 / 10.0,
            'kind', CASE WHEN n % 10 = 0 THEN 'other' ELSE 'given' END, 'a', n, 'b', 'text ' || n, 'c', n % 7,
            'd', true, 'e', 'another text', 'f', n / 3.0),
        1, $2, gen_random_uuid(), now(), nextval('sharing.row_changes')
    FROM generate_series(1, $3) AS n RETURNING change
)
UPDATE sharing.products SET row_count = $3, last_change = (SELECT max(change) FROM filled) WHERE name = $1
"""
HELD_ROWS = "SELECT row_count FROM sharing.products WHERE name = $1"
PROJECTED = """SELECT key, row->>'day', (row->>'value')::float8 FROM sharing.rows
    WHERE product = '%s' AND row->>'kind' = 'given'"""


async def run(folder: Path) -> Measured:
    async with pair(folder) as both:
        await _offer(both)
        runs = [await _rows_per_s(both) for _ in range(RUNS)]
        copied = [await _copied_per_s(both) for _ in range(RUNS)]
    value, copy = middle(runs), middle(copied)
    details = {
        "ratio_of": "value / rows per second by plain COPY",
        "copy_per_s": rounded(copy),
        "runs": [rounded(each) for each in runs],
        "rows_of_product": ROWS,
        "rows_given": ROWS_GIVEN,
    }
    return Measured("contract_bulk", value, "rows/s", LIMIT_PER_S, "higher", value / copy, details)


async def _offer(both: Pair) -> None:
    kinds = {"value": sharing.FIELD_TYPE_NUMBER, "day": sharing.FIELD_TYPE_DATE, "d": sharing.FIELD_TYPE_BOOL}
    numbers = dict.fromkeys(("a", "c", "f"), sharing.FIELD_TYPE_NUMBER)
    product = sharing.Product(
        name=PRODUCT, owner="organisations/bench", zone=DISTRICT_ZONE, version=1, offered=True, update_frequency="P1D"
    )
    for name in (*GIVEN, "kind", "a", "b", "c", "d", "e", "f"):
        kind = (kinds | numbers).get(name, sharing.FIELD_TYPE_STRING)
        product.fields.add(name=name, type=kind, classification=sharing.CLASSIFICATION_PUBLIC, key=name == "id")
    async with both.district.client() as provider:
        await provider.sharing.PutProduct(sharing.PutProductRequest(product=product))
    async with both.district.database.acquire() as conn:
        await conn.execute("SET statement_timeout = 0")  # what is not measured may take its time
        await conn.execute(FILL, PRODUCT, DISTRICT_ZONE, ROWS, timeout=WITHIN_S)
        await conn.execute("ANALYZE sharing.rows", timeout=WITHIN_S)


async def _rows_per_s(both: Pair) -> float:
    """Let a contract come into force, wait for its last row, and end it again: then the rows are deleted."""
    async with both.city.client() as consumer, both.district.client() as provider:
        name = await _agreed(consumer, provider)
        started = perf_counter()
        await consumer.federation.VerifyContract(pb.VerifyContractRequest(name=name))
        await _until_held(both, ROWS_GIVEN)
        took_s = perf_counter() - started
        await consumer.federation.TerminateContract(
            pb.TerminateContractRequest(name=name, reason="the measurement is over")
        )
        await _until_held(both, 0)
    return ROWS_GIVEN / took_s


async def _agreed(consumer: Client, provider: Client) -> str:
    fields = [sharing.FieldTerms(field=name) for name in GIVEN]
    fields[0].masking = sharing.MASKING_HASH
    terms = pb.Terms(
        product=PRODUCT,
        product_version=1,
        fields=fields,
        purpose="measurement",
        filter=sharing.RowFilter(where={"kind": "given"}),
    )
    request = pb.RequestContractRequest(peer=f"peers/{DISTRICT}", terms=terms)
    name = (await consumer.federation.RequestContract(request)).contract.name

    async def asked() -> bool:
        found = await provider.federation.ListContracts(pb.ListContractsRequest(peer=f"peers/{CITY}"))
        return any(each.name == name for each in found.contracts)

    async def agreed() -> bool:
        found = await consumer.federation.GetContract(pb.GetContractRequest(name=name))
        return found.contract.state == pb.CONTRACT_STATE_AGREED

    await eventually(asked)
    await provider.federation.AgreeContract(pb.AgreeContractRequest(name=name))
    await eventually(agreed)
    return name


async def _until_held(both: Pair, rows: int) -> None:
    async with both.city.database.acquire() as conn, asyncio.timeout(WITHIN_S):
        while (await conn.fetchval(HELD_ROWS, HELD) or 0) != rows:  # noqa: ASYNC110 - the event is in another process
            await asyncio.sleep(POLL_S)


async def _copied_per_s(both: Pair) -> float:
    """The same rows, chosen and projected but unmasked and unchecked, from the one database to a table of the other."""
    async with both.district.database.acquire() as source, both.city.database.acquire() as target:
        for conn in (source, target):
            await conn.execute("SET statement_timeout = 0")
        await target.execute("CREATE TABLE bench_rows (key text PRIMARY KEY, day text, value float8)")
        buffer = io.BytesIO()
        started = perf_counter()
        await source.copy_from_query(PROJECTED % PRODUCT, output=buffer, format="binary", timeout=WITHIN_S)
        buffer.seek(0)
        await target.copy_to_table("bench_rows", source=buffer, format="binary", timeout=WITHIN_S)
        took_s = perf_counter() - started
        await target.execute("DROP TABLE bench_rows")
    return ROWS_GIVEN / took_s
