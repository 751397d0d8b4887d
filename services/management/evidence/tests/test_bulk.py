"""Evidence of several events at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from libs.errors import Invalid, Reason
from quintet.management.v1 import management_pb2, worklists_pb2
from services.management.evidence.tests.handling import HANDLER, OFFICER, PDF, listed, opened, uploaded

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

# Where the bytes are makes no difference here.
pytestmark = pytest.mark.parametrize("store", ["folder"], indirect=True)
DISPOSE = worklists_pb2.BulkAdvance(action="dispose", reason="painted")


def target(event: str, *evidence: str) -> worklists_pb2.BulkTarget:
    return worklists_pb2.BulkTarget(name=event, evidence=evidence)


async def advance(city: Node, *targets: worklists_pb2.BulkTarget) -> list[worklists_pb2.BulkResult]:
    request = worklists_pb2.BulkWorkRequest(targets=targets, advance=DISPOSE, request_id="one-evening")
    return list((await city.call("BulkWork", request, HANDLER)).results)


async def test_each_event_shows_its_own_evidence_and_what_lacks_is_said_for_each(city: Node) -> None:
    walls = [await opened(city) for _ in range(5)]
    photos = [await uploaded(city, wall) for wall in walls[:3]]
    paper = await uploaded(city, walls[3], PDF)
    targets = [
        target(walls[0], photos[0]),
        target(walls[1], photos[2]),
        target(walls[2], photos[2], photos[2]),
        target(walls[3], paper),
        target(walls[4]),
    ]
    results = await advance(city, *targets)
    assert [result.name for result in results] == walls
    assert results[0].event.status == "done"
    assert [(result.error.code, result.error.reason, result.error.message) for result in results[1:]] == [
        ("INVALID_ARGUMENT", Reason.FIELD_INVALID, "evidence[0]: must be evidence of this event, named once"),
        ("INVALID_ARGUMENT", Reason.FIELD_INVALID, "evidence[1]: must be evidence of this event, named once"),
        *[
            (
                "INVALID_ARGUMENT",
                Reason.EVIDENCE_MISSING,
                "evidence: dispose needs 1 photos, new ones; there are 0",
            )
        ]
        * 2,
    ]
    assert [each.step for each in await listed(city, walls[0])] == [2]
    steps = await city.call("ListEventSteps", management_pb2.ListEventStepsRequest(name=walls[0]), OFFICER)
    assert list(steps.steps[-1].evidence) == [photos[0]]
    # What was refused is tried again, what was done is answered again.
    results = await advance(city, targets[0], target(walls[1], photos[1]), target(walls[2], photos[2]))
    assert [result.event.status for result in results] == ["done"] * 3


async def test_evidence_that_no_step_would_show_is_refused(city: Node) -> None:
    wall = await opened(city)
    photo = await uploaded(city, wall)
    request = worklists_pb2.BulkWorkRequest(targets=[target(wall, photo)], claim=worklists_pb2.BulkClaim())
    with pytest.raises(Invalid, match=r"targets\[0\].evidence: must be empty unless the operation is advance"):
        await city.call("BulkWork", request, HANDLER)
