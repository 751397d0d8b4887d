"""Reading rows: by people and programs of this node, and by federation for partners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from libs import paging
from libs.access import current_caller
from libs.canonical import JsonValue
from libs.errors import Invalid, NotFound, Reason
from libs.masking import mask, to_struct
from quintet.sharing.v1 import sharing_pb2 as pb
from services.sharing import store
from services.sharing.giving import page_of, read_for_contract
from services.sharing.model import Classification, Clearance, Product
from services.sharing.model_reading import Reading, read_held, read_own
from services.sharing.store_select import Parameters, chosen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree

READ = "sharing.rows.read"
READ_IMPORTANT = "sharing.rows.read_important"
READ_CORE = "sharing.rows.read_core"
READ_PERSONAL = "sharing.personal.read"

HASHED = pb.FieldTerms(masking=pb.MASKING_HASH)

Context = Any


@dataclass(frozen=True, slots=True)
class _Page:
    reading: Reading
    rows: list[dict[str, JsonValue]]
    next_token: str


class RowMethods:
    """The methods that give rows."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], *, node: str, salt: bytes) -> None:
        """`zones` gives the present tree, `node` is this node's id; `salt` is secret and hides personal values."""
        self._transactions = transactions
        self._zones = zones
        self._node = node
        self._salt = salt

    async def ReadProduct(self, request: pb.ReadProductRequest, _: Context) -> pb.ReadProductResponse:
        if not request.purpose.strip():
            raise Invalid("purpose", "must say what the rows are for", reason=Reason.PURPOSE_MISSING)
        page = await self._transactions.read(lambda conn: self._read(conn, request))
        if page.reading.sensitive:
            await self._record(request, page)
        return pb.ReadProductResponse(
            rows=[to_struct(self._shown(row, page.reading)) for row in page.rows],
            masked=sorted(page.reading.masked),
            contract=page.reading.contract,
            next_page_token=page.next_token,
        )

    async def _read(self, conn: Connection, request: pb.ReadProductRequest) -> _Page:
        product = await store.get_product(conn, request.name)
        if product is None:
            raise NotFound(Reason.PRODUCT_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        place = self._place(product)
        current_caller().require(READ, zone=place, organisation=product.owner)
        if product.node == self._node:
            reading = read_own(product, request.fields, request.where, self._clearance(place, product.owner))
        else:
            contracts = await store.contracts_of(conn, product.name)
            now = self._transactions.clock.now()
            reading = read_held(product, contracts, request.fields, request.where, now)
        rows, token = await _page(
            conn, product, reading.contract, request.where, request.page_token, paging.size(request.page_size)
        )
        return _Page(reading, rows, token)

    async def ReadForContract(self, request: pb.ReadForContractRequest, _: Context) -> pb.ReadForContractResponse:
        tree = self._zones()
        return await self._transactions.read(lambda conn: read_for_contract(conn, tree, self._node, request))

    async def _record(self, request: pb.ReadProductRequest, page: _Page) -> None:
        """Note who read sensitive data and what for. When that cannot be written down, nothing is given."""

        async def record(tx: Tx) -> None:
            tx.audit(
                READ,
                request.name,
                purpose=request.purpose,
                fields=list(page.reading.fields),
                masked=sorted(page.reading.masked),
                where=sorted(request.where),
                rows=len(page.rows),
            )

        await self._transactions.run(record)

    def _shown(self, row: Mapping[str, JsonValue], reading: Reading) -> dict[str, JsonValue]:
        return {
            name: mask(row[name], HASHED, self._salt) if name in reading.masked else row[name]
            for name in reading.fields
            if name in row
        }

    def _clearance(self, zone: str, organisation: str) -> Clearance:
        caller, level = current_caller(), Classification.INTERNAL
        if caller.allows(READ_IMPORTANT, zone, organisation):
            level = Classification.IMPORTANT
        if caller.allows(READ_CORE, zone, organisation):
            level = Classification.CORE
        return Clearance(level, personal=caller.allows(READ_PERSONAL, zone, organisation))

    def _place(self, product: Product) -> str:
        """Return the zone whose readers may read it: what a partner gave, it gave to the node as a whole."""
        return product.zone if product.node == self._node else self._zones().root


async def _page(
    conn: Connection, product: Product, contract: str, where: Mapping[str, str], token: str, size: int
) -> tuple[list[dict[str, JsonValue]], str]:
    """Return a page of whole rows, and the token of the next."""
    parameters = Parameters()
    chosen_by = chosen(parameters, pb.RowFilter(), {one.name: one.type for one in product.fields}, None, where)
    of = f"rows {product.name} {contract} {sorted(where.items())}"
    return await page_of(conn, product, contract, parameters, chosen_by, token=token, of=of, size=size)
