"""Rows and counts of an own product for a partner who asks: chosen, projected and masked as the contract says."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from libs import masking, paging
from libs.errors import Forbidden, Invalid, NotFound, Reason, WrongState
from quintet.sharing.v1 import sharing_pb2 as pb
from services.sharing import store, store_flows, store_rows
from services.sharing.model import Classification, Product
from services.sharing.publisher import zone_codes
from services.sharing.store_select import Parameters, chosen, counts

if TYPE_CHECKING:
    from libs.canonical import JsonValue
    from libs.db import Connection
    from libs.zones import ZoneTree

# Half of what a message may hold: rows grow on their way from JSON.
PAGE_BYTES_MAX = 1024 * 1024
CONTRACT_PAGE_SIZE = 1000


async def read_for_contract(
    conn: Connection, tree: ZoneTree, node: str, request: pb.ReadForContractRequest
) -> pb.ReadForContractResponse:
    """Return a page. Raises NotFound, WrongState, Invalid or Forbidden when the terms do not fit the product."""
    size = paging.size(request.page_size, default=CONTRACT_PAGE_SIZE, most=CONTRACT_PAGE_SIZE)
    product = await store.get_product(conn, request.product)
    if product is None:
        raise NotFound(Reason.PRODUCT_NOT_FOUND, f"{request.product} does not exist", name=request.product)
    _check_given(product, node, request)
    parameters = Parameters()
    types = {one.name: one.type for one in product.fields}
    where = chosen(parameters, request.filter, types, zone_codes(tree, request), request.where)
    digest = hashlib.sha256(request.filter.SerializeToString(deterministic=True)).hexdigest()
    of = f"given {product.name} {request.zone} {digest} {sorted(request.where.items())}"
    subjects: list[str] = []
    if request.HasField("aggregation"):
        rows, token = await _counts(conn, product, request, parameters, where, of=of, size=size)
    else:
        whole, token = await page_of(conn, product, "", parameters, where, token=request.page_token, of=of, size=size)
        rows = [masking.project_row(row, request.fields, request.salt) for row in whole]
        subjects = masking.subjects(whole, product.subject_fields)
    return pb.ReadForContractResponse(
        rows=[masking.to_struct(row) for row in rows], next_page_token=token, subjects=subjects
    )


async def page_of(
    conn: Connection,
    product: Product,
    contract: str,
    parameters: Parameters,
    where: str,
    *,
    token: str,
    of: str,
    size: int,
) -> tuple[list[dict[str, JsonValue]], str]:
    """Return a page of whole rows for which `where` holds, and the token of the next; `of` names the list."""
    after = paging.after(token, int, of=of)
    if after and not await store_rows.has_row(conn, product.name, contract, after[0]):
        rule = "is of rows that are gone: begin again"
        raise Invalid("pageToken", rule, reason=Reason.PAGE_TOKEN_INVALID)
    rows, more = await store_rows.page(
        conn,
        product.name,
        contract,
        parameters,
        where,
        after=after[0] if after else None,
        limit=size,
        bytes_max=PAGE_BYTES_MAX,
    )
    # A row more than the page says that there is a next one; which, does not matter.
    page, next_token = paging.page([*rows, rows[-1]] if more else rows, len(rows), lambda row: (row.id,), of=of)
    return [row.values for row in page], next_token


async def _counts(
    conn: Connection,
    product: Product,
    request: pb.ReadForContractRequest,
    parameters: Parameters,
    where: str,
    *,
    of: str,
    size: int,
) -> tuple[list[dict[str, JsonValue]], str]:
    given = list(masking.given(request.fields).values())
    if any(terms.masking == pb.MASKING_HASH for terms in given):
        raise Invalid("fields", "must not be hashed where rows are counted")
    after = paging.after(request.page_token, str, of=of)
    query = counts(parameters, given, where, product.name, request.aggregation.k)
    found = await store_flows.page_of_counts(conn, query, parameters, after=after[0] if after else "", limit=size + 1)
    page, token = paging.page(found, size, lambda one: (one[0],), of=of)
    names = [*(terms.field for terms in given), request.aggregation.count_field]
    return [dict(zip(names, json.loads(text), strict=True)) for _, text in page], token


def _check_given(product: Product, node: str, request: pb.ReadForContractRequest) -> None:
    """Raise when the terms do not fit the product, whatever was agreed before."""
    if product.node != node:
        raise WrongState(Reason.PRODUCT_NOT_OWN, f"{product.name} is {product.node}'s to give", name=product.name)
    if product.version != request.version:
        text = f"{product.name} is at version {product.version}, not {request.version}"
        raise WrongState(Reason.PRODUCT_VERSION_DIFFERS, text, version=str(product.version))
    for index, terms in enumerate(request.fields):
        field = product.field(terms.field)
        if field is None:
            text = f"{product.name} has no field {terms.field}"
            raise Invalid(f"fields[{index}].field", text, reason=Reason.FIELD_NOT_IN_PRODUCT)
        if field.classification.level is Classification.CORE:
            text = f"{terms.field} is core data, which never leaves the node"
            raise Forbidden(Reason.FIELD_ABOVE_CLEARANCE, text, field=terms.field)
    for name in [*request.filter.where, *filter(None, [request.filter.time_field])]:
        if product.field(name) is None:
            text = f"{product.name} has no field {name}"
            raise Invalid("filter", text, reason=Reason.FIELD_NOT_IN_PRODUCT)
    plain = {terms.field for terms in request.fields if terms.masking == pb.MASKING_UNSPECIFIED}
    for name in request.where:
        if name not in plain:
            text = f"the contract does not give {name} as it is, so rows cannot be chosen by it"
            raise Forbidden(Reason.FIELD_NOT_IN_CONTRACT, text, field=name)
