"""What deadlines are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import calendars_pb2
from quintet.management.v1.calendars_pb2_grpc import add_CalendarServiceServicer_to_server
from services.management.deadlines.service_calendars import CalendarServicer

if TYPE_CHECKING:
    from libs.host import Host, Servicer
    from services.management.deadlines.book import Calendars

CALENDARS = calendars_pb2.DESCRIPTOR.services_by_name["CalendarService"]


def servicers(host: Host, calendars: Calendars) -> list[Servicer]:
    calendar = CalendarServicer(host.transactions, host.zones.tree, calendars)
    return [(add_CalendarServiceServicer_to_server, calendar, CALENDARS)]
