"""Work lists as protos, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import worklists_pb2 as pb
from services.management.convert import component_sought, time_of
from services.management.worklists.model import Filter, Inbox, Order

if TYPE_CHECKING:
    from services.management.worklists.store_work import Counts

INBOXES = {
    pb.WORK_INBOX_UNSPECIFIED: Inbox.ALL,
    pb.WORK_INBOX_ROLE: Inbox.ROLE,
    pb.WORK_INBOX_MINE: Inbox.MINE,
    pb.WORK_INBOX_ORGANISATION: Inbox.ORGANISATION,
    pb.WORK_INBOX_UNASSIGNED: Inbox.UNASSIGNED,
}
ORDERS = {
    pb.WORK_ORDER_UNSPECIFIED: Order.DUE,
    pb.WORK_ORDER_DUE: Order.DUE,
    pb.WORK_ORDER_NEWEST: Order.NEWEST,
    pb.WORK_ORDER_OLDEST: Order.OLDEST,
    pb.WORK_ORDER_STEP_DUE: Order.STEP_DUE,
}


def filter_of(given: pb.WorkFilter, *assignees: str) -> Filter:
    """Read a filter without its zones and organisations, which are areas; `assignees` must have the event besides."""
    return Filter(
        states=tuple(given.states),
        types=tuple(given.types),
        assignees=(*assignees, *([given.assignee] if given.assignee else []), *([""] if given.unassigned else [])),
        overdue=given.overdue,
        due_before=time_of(given, "due_before"),
        title=given.title,
        mirrored=given.mirrored,
        component=component_sought(given.component, "filter.component"),
    )


def counts_pb(inbox: pb.WorkInbox.ValueType, counts: Counts) -> pb.WorkCounts:
    return pb.WorkCounts(
        inbox=inbox,
        total=counts.total,
        by_state=counts.by_state,
        overdue=counts.overdue,
        due_today=counts.due_today,
        unassigned=counts.unassigned,
    )
