"""Evidence from upload to the step that shows it."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from libs.errors import Away, Exhausted, Forbidden, Invalid, NotFound, Reason, WrongState
from quintet.management.v1 import evidence_pb2
from quintet.management.v1 import management_pb2 as pb
from services.management.evidence.keeping import UploadKeeper
from services.management.evidence.model_evidence import PART_BYTES_MAX, UPLOADS_PER_PERSON_MAX
from services.management.evidence.tests.handling import (
    HANDLER,
    JPEG,
    OFFICER,
    OTHER,
    PDF,
    dispose,
    finish,
    listed,
    opened,
    part,
    read,
    start,
    uploaded,
)

if TYPE_CHECKING:
    from services.management.evidence.tests.stores import Store
    from services.management.tests.conftest import MakeNode, Node

# ------------------------------------------------------------------------------------------------------------- uploads


async def test_a_file_in_parts_comes_back_whole(city: Node) -> None:
    event = await opened(city)
    content = JPEG + bytes(range(256)) * (PART_BYTES_MAX // 100)
    upload = await start(city, event, len(content))
    assert (upload.part_bytes, upload.parts) == (PART_BYTES_MAX, 3)
    last = content[2 * PART_BYTES_MAX :]
    assert await part(city, upload.name, 3, last) == [1, 2]
    assert await part(city, upload.name, 3, last) == [1, 2]
    assert await part(city, upload.name, 1, content[:PART_BYTES_MAX]) == [2]
    with pytest.raises(WrongState) as caught:
        await finish(city, upload.name)
    assert caught.value.reason == Reason.UPLOAD_INCOMPLETE
    assert await part(city, upload.name, 2, content[PART_BYTES_MAX : 2 * PART_BYTES_MAX]) == []
    evidence = await finish(city, upload.name)
    assert await finish(city, upload.name) == evidence
    assert (evidence.media_type, evidence.size_bytes, evidence.file_name) == ("image/jpeg", len(content), "照片.jpg")
    assert evidence.sha256 == hashlib.sha256(content).digest()
    assert (evidence.uploaded_by, evidence.step) == (HANDLER, 0)
    assert await read(city, evidence.name, OFFICER) == (evidence, content)


async def test_parts_must_fit(city: Node) -> None:
    event = await opened(city)
    upload = await start(city, event, PART_BYTES_MAX + 5)
    for number, content, problem in (
        (1, b"x", f"part 1 must be {PART_BYTES_MAX} bytes, not 1"),
        (2, b"x" * 6, "part 2 must be 5 bytes, not 6"),
        (3, b"", "must be at most 2"),
        (0, b"", "number"),
    ):
        with pytest.raises(Invalid, match=problem):
            await part(city, upload.name, number, content)
    with pytest.raises(Invalid, match="sizeBytes"):
        await start(city, event, 21 * 1024 * 1024)


@pytest.mark.parametrize(
    "content",
    [b"<html><script>", b"MZ\x90\x00", b"#!/bin/sh\n", b"PK\x03\x04", b"GIF89a", b"\x00\x00\x00\x18ftypevil", b"x"],
)
async def test_what_a_file_is_its_bytes_say(city: Node, content: bytes) -> None:
    event = await opened(city)
    upload = await start(city, event, len(content))
    await part(city, upload.name, 1, content)
    with pytest.raises(Invalid, match="is none of image/jpeg, "):
        await finish(city, upload.name)
    assert await listed(city, event) == []


async def test_only_who_handles_an_event_adds_to_it_and_only_to_uploads_of_their_own(city: Node) -> None:
    event = await opened(city)
    for subject in ("people/resident.01", "people/handler.parks", "people/leader"):
        with pytest.raises(Forbidden):
            await start(city, event, 10, subject)
    with pytest.raises(NotFound):
        await start(city, "zones/us-ca-sf-d6/events/none", 10)
    upload = await start(city, event, len(JPEG))
    for attempt in (part(city, upload.name, 1, JPEG, OTHER), finish(city, upload.name, OTHER)):
        with pytest.raises(NotFound) as caught:
            await attempt
        assert caught.value.reason == Reason.UPLOAD_NOT_FOUND
    assert await part(city, upload.name, 1, JPEG) == []


async def test_nobody_fills_the_store_with_uploads(city: Node) -> None:
    event = await opened(city)
    for _ in range(UPLOADS_PER_PERSON_MAX):
        await start(city, event, 10)
    with pytest.raises(Exhausted):
        await start(city, event, 10)
    await start(city, event, 10, OTHER)


async def test_what_is_given_up_makes_room_and_is_removed(city: Node, store: Store) -> None:
    event = await opened(city)
    uploads = [await start(city, event, len(JPEG)) for _ in range(UPLOADS_PER_PERSON_MAX)]
    given_up = evidence_pb2.DeleteUploadRequest(name=uploads[0].name)
    await part(city, uploads[0].name, 1, JPEG)
    with pytest.raises(NotFound):
        await city.call("DeleteUpload", given_up, OTHER)
    await city.call("DeleteUpload", given_up, HANDLER)
    for attempt in (finish(city, uploads[0].name), city.call("DeleteUpload", given_up, HANDLER)):
        with pytest.raises(NotFound) as caught:
            await attempt
        assert caught.value.reason == Reason.UPLOAD_NOT_FOUND
    await start(city, event, 10)
    assert await city.rows("SELECT FROM evidence_parts") == []
    assert await UploadKeeper(city.transactions, store.opened()).sweep() == 1
    done = await uploaded(city, event, subject=OTHER)
    with pytest.raises(NotFound):
        await city.call(
            "DeleteUpload", evidence_pb2.DeleteUploadRequest(name=done.replace("evidence", "uploads")), OTHER
        )
    assert (await read(city, done))[1] == JPEG


async def test_an_upload_is_begun_once(city: Node) -> None:
    event = await opened(city)
    first = await start(city, event, 10, request_id="one")
    assert (await start(city, event, 10, request_id="one")).name == first.name


async def test_what_nobody_finishes_is_removed(city: Node, store: Store) -> None:
    event = await opened(city)
    done = await uploaded(city, event)
    left = await start(city, event, len(JPEG))
    await part(city, left.name, 1, JPEG)
    # Its file was written, and then the node went down.
    (row,) = await city.rows("SELECT object FROM evidence_uploads")
    await store.objects.put(row["object"], JPEG)
    keeper = UploadKeeper(city.transactions, store.opened())
    assert await keeper.sweep() == 0
    city.clock.advance(timedelta(hours=24, seconds=1))
    assert await keeper.sweep() == 1
    assert await store.objects.get(row["object"]) is None
    assert await city.rows("SELECT FROM evidence_uploads") == await city.rows("SELECT FROM evidence_parts") == []
    with pytest.raises(NotFound):
        await finish(city, left.name)
    assert (await read(city, done))[1] == JPEG


async def test_damage_is_seen(city: Node, store: Store) -> None:
    name = await uploaded(city, await opened(city))
    (row,) = await city.rows("SELECT object FROM evidence")
    objects = store.objects
    for damage in (partial(objects.put, row["object"], JPEG[:-1] + b"!"), partial(objects.delete, row["object"])):
        await damage()
        with pytest.raises(WrongState) as caught:
            await read(city, name)
        assert caught.value.reason == Reason.EVIDENCE_DAMAGED


async def test_while_the_store_is_away_nothing_is_lost_and_people_are_told_to_come_again(
    city: Node, store: Store
) -> None:
    event = await opened(city)
    before = await uploaded(city, event)
    upload = await start(city, event, len(PDF))
    await part(city, upload.name, 1, PDF)
    await store.cut()
    for attempt in (finish(city, upload.name), read(city, before)):
        with pytest.raises(Away) as caught:
            await attempt
        assert (caught.value.reason, caught.value.metadata["dependency"]) == (Reason.DEPENDENCY_AWAY, "evidence")
    # What needs no bytes goes on.
    assert [each.name for each in await listed(city, event)] == [before]
    await store.mend()
    evidence = await finish(city, upload.name)
    assert await read(city, evidence.name) == (evidence, PDF)
    assert (await read(city, before))[1] == JPEG


async def test_what_breaks_off_on_its_way_to_the_store_leaves_nothing_and_is_finished_later(
    city: Node, store: Store
) -> None:
    event = await opened(city)
    content = JPEG + bytes(PART_BYTES_MAX - len(JPEG))
    upload = await start(city, event, len(content))
    await part(city, upload.name, 1, content)
    await store.break_off()
    with pytest.raises(Away):
        await finish(city, upload.name)
    assert await store.names() == []
    assert await listed(city, event) == []
    await store.mend()
    evidence = await finish(city, upload.name)
    assert (await read(city, evidence.name))[1] == content
    assert len(await store.names()) == 1


# --------------------------------------------------------------------------------------------------------------- steps


async def test_a_step_shows_its_evidence(city: Node) -> None:
    event = await opened(city)
    plan, photo = await uploaded(city, event, PDF), await uploaded(city, event)
    with pytest.raises(Invalid, match="dispose needs 1 photos, new ones; there are 0") as caught:
        await dispose(city, event, plan)
    assert caught.value.reason == Reason.EVIDENCE_MISSING
    assert (await dispose(city, event, plan, photo)).status == "done"
    steps = await city.call("ListEventSteps", pb.ListEventStepsRequest(name=event), OFFICER)
    assert [list(step.evidence) for step in steps.steps] == [[], [plan, photo]]
    assert [(each.name, each.step) for each in await listed(city, event)] == [(plan, 2), (photo, 2)]
    fact, message = (await city.stated())[-1]
    assert (fact.type.rpartition(".")[2], list(message.step.evidence)) == ("EventAdvanced", [plan, photo])


async def test_old_photos_do_not_show_new_work(city: Node) -> None:
    event = await opened(city)
    photo = await uploaded(city, event)
    await dispose(city, event, photo)
    again = pb.AdvanceEventRequest(name=event, action="reopen")
    await city.call("AdvanceEvent", again, HANDLER)
    with pytest.raises(WrongState, match="is shown by step 2 already"):
        await dispose(city, event, photo)
    assert (await dispose(city, event, await uploaded(city, event))).status == "done"


async def test_evidence_is_of_the_event_and_named_once(city: Node) -> None:
    event, other = await opened(city), await opened(city)
    photo, strange = await uploaded(city, event), await uploaded(city, other)
    for names in ((photo, strange), (photo, photo), (photo, f"{event}/evidence/none")):
        with pytest.raises(Invalid, match=r"evidence\[1\]: must be evidence of this event, named once"):
            await dispose(city, event, *names)


async def test_a_type_may_ask_for_more_than_its_loop(city: Node) -> None:
    event = await opened(city, pb.EvidenceNeed(action="dispose", evidence=3, photos=0))
    names = [await uploaded(city, event, content) for content in (JPEG, PDF)]
    with pytest.raises(Invalid, match="dispose needs 3 pieces of evidence, new ones; there are 2"):
        await dispose(city, event, *names)
    assert (await dispose(city, event, *names, await uploaded(city, event, PDF))).status == "done"
    with pytest.raises(Invalid, match="weld is not an action of loops/shown"):
        await opened(city, pb.EvidenceNeed(action="weld", photos=1))


async def test_who_may_read_an_event_may_read_its_evidence_and_nobody_else(city: Node) -> None:
    event = await opened(city)
    photo = await uploaded(city, event)
    for subject in ("people/resident.01", "people/handler.parks"):
        with pytest.raises(Forbidden):
            await read(city, photo, subject)
        with pytest.raises(Forbidden):
            await listed(city, event, subject)
    with pytest.raises(NotFound) as caught:
        await read(city, f"{event}/evidence/none")
    assert caught.value.reason == Reason.EVIDENCE_NOT_FOUND


async def test_the_tier_above_knows_that_there_is_evidence(make_node: MakeNode) -> None:
    city, district = await make_node("sf", "us-ca-sf-d6"), await make_node("sf-d6", root="us-ca-sf-d6")
    event = await opened(district)
    photo = await uploaded(district, event)
    await dispose(district, event, photo)
    await district.report_to(city)
    steps = await city.call("ListEventSteps", pb.ListEventStepsRequest(name=event), OFFICER)
    assert list(steps.steps[-1].evidence) == [photo]
    assert await listed(city, event) == []
    with pytest.raises(WrongState) as caught:
        await start(city, event, 10, OFFICER)
    assert caught.value.reason == Reason.NOT_AUTHORITATIVE
