"""Taking readings in and giving them out."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason
from quintet.perception.v1 import perception_pb2 as pb
from services.perception import store, store_readings, wire
from services.perception.service_parts import Context, Parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from libs.db import Connection
    from services.perception.model import Outcome
    from services.perception.store_readings import Stored

WRITE = "perception.readings.write"
READ = "perception.readings.read"


class ReadingMethods(Parts):
    """Readings of devices."""

    async def IngestReadings(self, request: pb.IngestReadingsRequest, _: Context) -> pb.IngestReadingsResponse:
        outcome = await self._take_in(request.readings)
        return pb.IngestReadingsResponse(
            accepted=outcome.accepted, duplicates=outcome.duplicates, refused=wire.refused_messages(outcome)
        )

    async def StreamReadings(
        self, request_iterator: AsyncIterator[pb.StreamReadingsRequest], _: Context
    ) -> AsyncIterator[pb.StreamReadingsResponse]:
        # One batch at a time: what comes meanwhile waits in HTTP/2's window, which is the flow control.
        async for request in request_iterator:
            outcome = await self._take_in(request.readings)
            yield pb.StreamReadingsResponse(
                accepted=outcome.accepted, duplicates=outcome.duplicates, refused=wire.refused_messages(outcome)
            )

    async def ListLatestReadings(
        self, request: pb.ListLatestReadingsRequest, _: Context
    ) -> pb.ListLatestReadingsResponse:
        async def read(conn: Connection) -> list[tuple[str, Stored]]:
            await _visible(conn, request.device)
            return await store_readings.latest(conn, request.device)

        rows = await self._transactions.read(read)
        return pb.ListLatestReadingsResponse(
            readings=[wire.reading_message(request.device, indicator, stored) for indicator, stored in rows]
        )

    async def ListReadings(self, request: pb.ListReadingsRequest, _: Context) -> pb.ListReadingsResponse:
        start = wire.time_of(request.start_time) if request.HasField("start_time") else None
        end = wire.time_of(request.end_time) if request.HasField("end_time") else None
        if start is not None and end is not None and end < start:
            raise Invalid("endTime", "must not be before startTime")
        of, size = f"readings {request.device} {request.indicator} {start} {end}", paging.size(request.page_size)
        token = paging.after(request.page_token, datetime, of=of)
        after = token[0] if token else None

        async def read(conn: Connection) -> list[Stored]:
            await _visible(conn, request.device)
            return await store_readings.history(
                conn, request.device, request.indicator, start=start, end=end, after=after, limit=size + 1
            )

        page, next_token = paging.page(await self._transactions.read(read), size, lambda stored: (stored.time,), of=of)
        return pb.ListReadingsResponse(
            readings=[wire.reading_message(request.device, request.indicator, stored) for stored in page],
            next_page_token=next_token,
        )

    async def _take_in(self, messages: Iterable[pb.Reading]) -> Outcome:
        caller = current_caller()
        return await self._ingest.take_in(
            wire.readings_of(messages),
            lambda zone, organisation: caller.allows(WRITE, zone, organisation),
        )


async def _visible(conn: Connection, name: str) -> None:
    """Raise NotFound for a device that is not there, Forbidden for one that the caller may not read."""
    device = await store.get_device(conn, name)
    if device is None:
        raise NotFound(Reason.DEVICE_NOT_FOUND, f"{name} does not exist", name=name)
    current_caller().require(READ, zone=device.zone, organisation=device.organisation)
