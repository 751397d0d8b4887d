"""What deadlines are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import calendars_pb2, deadlines_pb2, exceptions_pb2
from quintet.management.v1.calendars_pb2_grpc import add_CalendarServiceServicer_to_server
from quintet.management.v1.deadlines_pb2_grpc import add_DeadlineServiceServicer_to_server
from quintet.management.v1.exceptions_pb2_grpc import add_ExceptionServiceServicer_to_server
from services.management.deadlines.service_calendars import CalendarServicer
from services.management.deadlines.service_deadlines import DeadlineServicer
from services.management.deadlines.service_exceptions import ExceptionServicer

if TYPE_CHECKING:
    from libs.host import Host, Servicer
    from services.management.catalogue.book import LoopBook
    from services.management.deadlines.book import Book
    from services.management.intake import Intake

CALENDARS = calendars_pb2.DESCRIPTOR.services_by_name["CalendarService"]
DEADLINES = deadlines_pb2.DESCRIPTOR.services_by_name["DeadlineService"]
EXCEPTIONS = exceptions_pb2.DESCRIPTOR.services_by_name["ExceptionService"]


def servicers(host: Host, loops: LoopBook, intake: Intake, book: Book) -> list[Servicer]:
    calendar = CalendarServicer(host.transactions, host.zones.tree, book)
    deadlines = DeadlineServicer(host.transactions, book)
    exceptions = ExceptionServicer(host.transactions, loops, host.zones.tree, intake, book)
    return [
        (add_CalendarServiceServicer_to_server, calendar, CALENDARS),
        (add_DeadlineServiceServicer_to_server, deadlines, DEADLINES),
        (add_ExceptionServiceServicer_to_server, exceptions, EXCEPTIONS),
    ]
