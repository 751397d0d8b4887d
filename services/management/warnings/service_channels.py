"""Webhooks, and warnings in the Common Alerting Protocol."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import names, paging
from libs.access import current_caller
from libs.errors import Exhausted, Invalid, NotFound, Reason
from quintet.common.v1.common_pb2 import LocalText
from quintet.management.v1 import channels_pb2 as pb
from quintet.management.v1.channels_pb2_grpc import WarningChannelServiceServicer
from services.management.convert import time_pb, zone_of
from services.management.warnings import store_cap, store_warnings, store_webhooks
from services.management.warnings.model_warning import PUBLIC_WARNING_NAME
from services.management.warnings.service_centre import concerning
from services.management.warnings.store_webhooks import WEBHOOKS_MAX, Webhook
from services.management.warnings.webhook_address import AddressError, checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.service_base import Context

CAP_NAME = PUBLIC_WARNING_NAME + "/capMessages/{message}"
WRITE, READ = "management.webhooks.write", "management.webhooks.read"
_NUMBER_DIGITS_MAX = 9
_LIST = "webhooks"


class WarningChannelServicer(WarningChannelServiceServicer):
    """How warnings reach other systems."""

    def __init__(
        self,
        transactions: Transactions,
        zones: Callable[[], ZoneTree],
        signing_key: Callable[[], str],
        *,
        private: bool,
    ) -> None:
        """`signing_key` gives the public key of deliveries as a JWK; `private` allows addresses of private networks."""
        self._transactions = transactions
        self._zones = zones
        self._signing_key = signing_key
        self._private = private

    async def PutWebhook(self, request: pb.PutWebhookRequest, _context: Context) -> pb.PutWebhookResponse:
        return await self._transactions.mutate(request, pb.PutWebhookResponse, partial(self._put, request))

    async def _put(self, request: pb.PutWebhookRequest, tx: Tx) -> pb.PutWebhookResponse:
        tree = self._zones()
        # It is told of the whole node's warnings, so whoever writes it needs the right in the whole node.
        current_caller().require(WRITE, zone=tree.root)
        given = request.webhook
        try:
            checked(given.url, private=self._private)
        except AddressError as error:
            raise Invalid("webhook.url", str(error)) from error
        zones = tuple(dict.fromkeys(tree.canonical(zone) for zone in given.zones))
        wanted = Webhook(given.name, given.organisation, zones, given.url, given.paused)
        changed = await store_webhooks.put(tx.conn, wanted)
        if await store_webhooks.count(tx.conn) > WEBHOOKS_MAX:
            raise Exhausted(Reason.QUOTA, f"a node has at most {WEBHOOKS_MAX} webhooks")
        if changed:
            # Not the address: what stands behind its question mark may be a secret of its owner.
            tx.audit("management.webhooks.put", wanted.name, organisation=wanted.organisation, paused=wanted.paused)
        stored = await store_webhooks.get(tx.conn, wanted.name)
        return pb.PutWebhookResponse(webhook=self._webhook_pb(stored or wanted), changed=changed)

    async def ListWebhooks(self, request: pb.ListWebhooksRequest, _context: Context) -> pb.ListWebhooksResponse:
        current_caller().require(READ, zone=self._zones().root)
        size = paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=_LIST)
        rows = await self._transactions.read(
            lambda conn: store_webhooks.page(conn, after=after[0] if after else "", limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row.name,), of=_LIST)
        return pb.ListWebhooksResponse(webhooks=[self._webhook_pb(row) for row in page], next_page_token=token)

    async def GetCapMessage(self, request: pb.GetCapMessageRequest, _context: Context) -> pb.GetCapMessageResponse:
        parts = names.parse(request.name, CAP_NAME)
        warning = names.build(PUBLIC_WARNING_NAME, zone=parts["zone"], warning=parts["warning"])
        number = parts["message"]
        known = number.isascii() and number.isdigit() and len(number) <= _NUMBER_DIGITS_MAX
        found = await self._transactions.read(lambda conn: store_cap.get(conn, warning, int(number))) if known else None
        if found is None:
            raise NotFound(Reason.CAP_MESSAGE_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        return pb.GetCapMessageResponse(message=_message_pb(found, whole=True))

    async def ListCapMessages(
        self, request: pb.ListCapMessagesRequest, _context: Context
    ) -> pb.ListCapMessagesResponse:
        zones = concerning(self._zones(), zone_of(request.parent))
        size = paging.size(request.page_size)
        of = f"cap messages {request.parent}"
        after = paging.after(request.page_token, datetime, str, of=of)
        now = self._transactions.clock.now()

        async def read(conn: Connection) -> pb.ListCapMessagesResponse:
            rows = await store_warnings.in_force(conn, zones, now, after=after, limit=size + 1)
            page, token = paging.page(rows, size, lambda row: (row.updated_at or now, row.name), of=of)
            messages = await store_cap.newest(conn, [row.name for row in page])
            found = [_message_pb(messages[row.name], whole=False) for row in page if row.name in messages]
            return pb.ListCapMessagesResponse(messages=found, next_page_token=token)

        return await self._transactions.read(read)

    def _webhook_pb(self, webhook: Webhook) -> pb.Webhook:
        return pb.Webhook(
            name=webhook.name,
            organisation=webhook.organisation,
            zones=webhook.zones,
            url=webhook.url,
            paused=webhook.paused,
            signing_key=self._signing_key(),
            waiting=webhook.waiting,
            dead=webhook.dead,
            last_error=webhook.last_error,
        )


def _message_pb(kept: store_cap.Kept, *, whole: bool) -> pb.CapMessage:
    return pb.CapMessage(
        name=f"{kept.warning}/capMessages/{kept.number}",
        identifier=kept.identifier,
        headline=LocalText(zh=kept.zh, en=kept.en),
        sent_at=time_pb(kept.sent_at),
        xml=kept.xml if whole else "",
    )
