"""NoticeService: the caller's notices, listed and acknowledged."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import NotFound, Reason
from quintet.collaboration.v1 import notices_pb2 as pb
from quintet.collaboration.v1.notices_pb2_grpc import NoticeServiceServicer
from quintet.common.v1.common_pb2 import LocalText
from services.collaboration.messages import timestamp
from services.collaboration.notices import store
from services.collaboration.notices.model import NoticeKind, reached
from services.collaboration.service_parts import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, Context, Methods

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Tx
    from services.collaboration.notices.model import Holding, Notice

_KIND = {kind: pb.NoticeKind.Value(f"NOTICE_KIND_{kind.name}") for kind in NoticeKind}


class NoticeServicer(Methods, NoticeServiceServicer):
    """Notices of the people of this node."""

    async def ListNotices(self, request: pb.ListNoticesRequest, _: Context) -> pb.ListNoticesResponse:
        person = current_caller().subject
        of = f"notices {person} {request.unacknowledged_only}"
        after = paging.after(request.page_token, datetime, str, of=of)
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)

        async def read(conn: Connection) -> tuple[list[Notice], int]:
            mine = await self._held(conn, person)
            found = await store.newest(conn, mine, after, size + 1, unacknowledged_only=request.unacknowledged_only)
            return found, await store.urgent(conn, mine)

        rows, urgent = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row.created_at, row.id), of=of)
        return pb.ListNoticesResponse(notices=[_message(row) for row in page], next_page_token=token, urgent=urgent)

    async def AcknowledgeNotice(self, request: pb.AcknowledgeNoticeRequest, _: Context) -> pb.AcknowledgeNoticeResponse:
        person = current_caller().subject

        async def acknowledge(tx: Tx) -> pb.AcknowledgeNoticeResponse:
            mine = await self._held(tx.conn, person)
            found = await store.acknowledge(tx.conn, mine, request.name.removeprefix("notices/"), person, tx.now)
            if found is None:
                raise NotFound(Reason.NOTICE_NOT_FOUND, f"{request.name} does not exist", name=request.name)
            notice, first = found
            if first:
                tx.audit("collaboration.notices.acknowledge", notice.name, subject=notice.subject)
            return pb.AcknowledgeNoticeResponse(notice=_message(notice))

        return await self._transactions.mutate(request, pb.AcknowledgeNoticeResponse, acknowledge)

    async def _held(self, conn: Connection, person: str) -> list[Holding]:
        return reached(await store.held_by(conn, self._node, person), self._zones())


def _message(notice: Notice) -> pb.Notice:
    return pb.Notice(
        name=notice.name,
        kind=_KIND[notice.kind],
        title=notice.title,
        text=LocalText(zh=notice.text_zh, en=notice.text_en),
        subject=notice.subject,
        due_at=timestamp(notice.due_at),
        role=notice.role,
        organisation=notice.organisation,
        zone=notice.zone,
        node=notice.node,
        urgent=notice.urgent,
        created_at=timestamp(notice.created_at),
        acknowledged_at=timestamp(notice.acknowledged_at),
        acknowledged_by=notice.acknowledged_by,
    )
