"""SharingService: the catalogue, and the terms under which it may be given away. Rows stand in service_rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason, WrongState
from quintet.sharing.v1 import sharing_pb2 as pb
from quintet.sharing.v1.facts_pb2 import ProductChanged
from quintet.sharing.v1.sharing_pb2_grpc import SharingServiceServicer
from services.sharing import store, store_rows, wire
from services.sharing.facts import SOURCE_TYPES
from services.sharing.model import Product, check_product
from services.sharing.model_terms import needs_approver, refusals_of, zone_refusals
from services.sharing.service_rows import Context, RowMethods
from services.sharing.source import extraction

if TYPE_CHECKING:
    from libs.tx import Tx

WRITE = "sharing.products.write"
READ = "sharing.products.read"


class SharingServicer(RowMethods, SharingServiceServicer):
    """The whole service."""

    async def PutProduct(self, request: pb.PutProductRequest, _: Context) -> pb.PutProductResponse:
        caller, tree = current_caller(), self._zones()
        wanted = wire.product_of(request.product, self._node)
        if not tree.covers(tree.root, wanted.zone):
            raise Invalid("product.zone", f"{wanted.zone} is not a zone of this node")
        caller.require(WRITE, zone=wanted.zone, organisation=wanted.owner)

        async def put(tx: Tx) -> pb.PutProductResponse:
            before = await store.lock_product(tx.conn, wanted.name)
            if before is not None and before.node != self._node:
                raise WrongState(Reason.PRODUCT_NOT_OWN, f"{wanted.name} is {before.node}'s", name=wanted.name)
            if before is not None:
                caller.require(WRITE, zone=before.zone, organisation=before.owner)
            check_product(wanted, before)
            if wanted.source is not None:
                extraction(wanted, SOURCE_TYPES)
            product = await self._put(tx, wanted, before)
            tx.audit(WRITE, product.name, changed=product != before, version=product.version)
            return pb.PutProductResponse(product=wire.product_message(product), changed=product != before)

        return await self._transactions.mutate(request, pb.PutProductResponse, put)

    async def _put(self, tx: Tx, wanted: Product, before: Product | None) -> Product:
        product = wanted
        if before is not None:
            product = replace(wanted, rows=before.rows, updated_at=before.updated_at)
            if product == before:
                return before
        await store.put_product(tx.conn, product)
        if before is not None and before.key_fields != product.key_fields:
            # Rows are found again by their keys: under other keys the old ones would stay for ever beside the new.
            await store_rows.delete_rows(tx.conn, product.name)
            product = replace(product, rows=0, updated_at=None)
        elif before is not None and before.version != product.version:
            await store_rows.lift_rows(tx.conn, product.name, product.version)
        tx.publish(ProductChanged(product=wire.product_message(product)), zone=product.zone, key=product.name)
        return product

    async def GetProduct(self, request: pb.GetProductRequest, _: Context) -> pb.GetProductResponse:
        product = await self._product(request.name)
        current_caller().require(READ, zone=self._place(product), organisation=product.owner)
        return pb.GetProductResponse(product=wire.product_message(product))

    async def ListProducts(self, request: pb.ListProductsRequest, _: Context) -> pb.ListProductsResponse:
        of, size = f"products {request.offered_only}", paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=of)
        visible, root = current_caller().visibility(READ), self._zones().root
        rows = await self._transactions.read(
            lambda conn: store.list_products(
                conn,
                visible,
                node=self._node,
                root=root,
                offered_only=request.offered_only,
                after=after[0] if after else None,
                limit=size + 1,
            )
        )
        page, token = paging.page(rows, size, lambda product: (product.name,), of=of)
        return pb.ListProductsResponse(products=map(wire.product_message, page), next_page_token=token)

    async def CheckTerms(self, request: pb.CheckTermsRequest, _: Context) -> pb.CheckTermsResponse:
        product = await self._product(request.product)
        terms, choice = wire.terms_of(request.fields), wire.choice_of(request)
        refusals = refusals_of(product, self._node, request.version, terms, choice)
        tree = self._zones()
        refusals += zone_refusals(choice.zones, {zone for zone in choice.zones if tree.covers(tree.root, zone)})
        return pb.CheckTermsResponse(
            refusals=map(wire.refusal_message, refusals),
            key_fields=product.key_fields,
            needs_approver=needs_approver(product, terms, choice),
        )

    async def _product(self, name: str) -> Product:
        product = await self._transactions.read(lambda conn: store.get_product(conn, name))
        if product is None:
            raise NotFound(Reason.PRODUCT_NOT_FOUND, f"{name} does not exist", name=name)
        return product
