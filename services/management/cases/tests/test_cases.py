"""A case from its event to the library, and from there to the next event like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format

from libs.errors import Forbidden, Invalid, NotFound, Reason, Stale, WrongState
from quintet.common.v1 import common_pb2
from quintet.management.v1 import cases_pb2 as pb
from quintet.management.v1 import management_pb2
from services.management.tests.samples import GRAFFITI, NOISE, WORKS
from services.management.tests.story import OFFICER, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

WRITER, OTHER, REVIEWER, LEADER = "people/handler.works", "people/dispatcher", "people/supervisor", "people/leader"
D10 = "us-ca-sf-d10"


async def event(node: Node, description: str, event_type: str = GRAFFITI.name, address: str = "") -> str:
    """Open an event that the crew has, and return its name."""
    request = management_pb2.OpenEventRequest(
        parent=f"zones/{D10}", type=event_type, description=description, place=common_pb2.Place(address=address)
    )
    name: str = (await node.call("OpenEvent", request, OFFICER)).event.name
    await walk(node, name, "file")
    await walk(node, name, "dispatch", organisation=WORKS)
    return name


def content(**changes: Any) -> pb.CaseContent:
    values = {
        "title": {"zh": "文物墙面涂鸦", "en": "Graffiti on a listed wall"},
        "difficulty": {"zh": "墙面为砂岩，高压水会损伤", "en": "Sandstone: pressure washing ruins it"},
        "solution": {"zh": "先用敷剂再低压清洗；联系人13812345678", "en": "Poultice first, then rinse at low pressure"},
        "tags": ["涂鸦", "heritage"],
    }
    return json_format.ParseDict(values | changes, pb.CaseContent())


async def keep(node: Node, of: str, subject: str = WRITER, **changes: Any) -> pb.Case:
    answer: pb.KeepCaseResponse = await node.call(
        "KeepCase", pb.KeepCaseRequest(event=of, content=content(**changes)), subject
    )
    return answer.case


async def review(
    node: Node, case: pb.Case, subject: str = REVIEWER, *, publish: bool = True, note: str = ""
) -> pb.Case:
    version = case.awaiting.version or case.version.version
    request = pb.ReviewCaseRequest(name=case.name, version=version, publish=publish, note=note)
    answer: pb.ReviewCaseResponse = await node.call("ReviewCase", request, subject)
    return answer.case


async def suggest(node: Node, of: str, subject: str = WRITER) -> list[pb.CaseSuggestion]:
    return list((await node.call("SuggestCases", pb.SuggestCasesRequest(event=of), subject)).suggestions)


async def cases(node: Node, subject: str = WRITER, **more: Any) -> list[str]:
    return [case.name for case in (await node.call("ListCases", pb.ListCasesRequest(**more), subject)).cases]


async def test_a_case_is_reviewed_by_somebody_else_and_then_suggested(city: Node) -> None:
    first = await event(city, "砂岩墙面上有涂鸦 tags on a sandstone wall", address="市民公园")
    case = await keep(city, first)
    assert (case.event, case.type, case.organisation, case.version.state) == (
        first, GRAFFITI.name, WORKS, pb.CASE_VERSION_STATE_AWAITING,
    )  # fmt: skip
    assert case.version.content.place_class == pb.PLACE_CLASS_PARK
    assert case.version.content.solution.zh == "先用敷剂再低压清洗；联系人[电话 phone]"
    assert list(case.version.masked) == ["phone"]
    stored = await city.rows("SELECT content::text AS content FROM case_versions")
    assert "13812345678" not in stored[0]["content"]

    similar = await event(city, "又有人在砂岩墙上涂鸦", address="中山公园")
    assert not await suggest(city, similar)
    assert not await cases(city)
    published = await review(city, case)
    assert published.version.reviewed_by == REVIEWER
    (found,) = await suggest(city, similar)
    assert found.case.name == case.name
    assert found.case.version.content.title.en == "Graffiti on a listed wall"
    assert "类型相同" in found.explanation.text.zh
    assert "涂鸦" in found.explanation.text.zh
    assert "场所同为公园广场" in found.explanation.text.zh
    assert "same type" in found.explanation.text.en
    assert found.score > 0.55
    # In English as well, and for a type of its own; never for the event that it was kept from.
    english = await event(city, "graffiti on sandstone walls again", NOISE.name)
    assert [each.case.name for each in await suggest(city, english)] == [case.name]
    unlike = await event(city, "loud music at night", NOISE.name)
    assert not await suggest(city, unlike)
    assert not await suggest(city, first)


async def test_who_wrote_it_cannot_publish_it(city: Node) -> None:
    case = await keep(city, await event(city, "涂鸦"), REVIEWER)
    with pytest.raises(Forbidden) as refused:
        await review(city, case)
    assert refused.value.reason == Reason.APPROVAL_BY_SAME
    with pytest.raises(Forbidden):
        await review(city, case, WRITER)
    with pytest.raises(Invalid):
        await review(city, case, LEADER, publish=False)
    back = await review(city, case, LEADER, publish=False, note="what does it cost?")
    assert (back.version.state, back.version.note) == (pb.CASE_VERSION_STATE_SENT_BACK, "what does it cost?")
    with pytest.raises(WrongState):
        await review(city, back, LEADER)
    assert not await cases(city, awaiting=True)


async def test_a_published_version_stays_in_force_until_the_next_is_reviewed(city: Node) -> None:
    case = await review(city, await keep(city, await event(city, "涂鸦")))
    request = pb.ReviseCaseRequest(name=case.name, content=content(title={"en": "Sandstone"}), etag=case.etag)
    revised = (await city.call("ReviseCase", request, WRITER)).case
    assert (revised.version.version, revised.awaiting.version) == (1, 2)
    with pytest.raises(Stale):
        await city.call("ReviseCase", request, WRITER)
    seen = (await city.call("GetCase", pb.GetCaseRequest(name=case.name), OFFICER)).case
    assert (seen.version.version, seen.HasField("awaiting")) == (1, False)
    request.etag = 0
    await city.call("ReviseCase", request, WRITER)
    assert await cases(city, REVIEWER, awaiting=True) == [case.name]
    assert await cases(city, OFFICER, awaiting=True) == []
    with pytest.raises(WrongState):  # version 2 was replaced
        await review(city, revised)
    latest = (await city.call("GetCase", pb.GetCaseRequest(name=case.name), WRITER)).case
    assert (await review(city, latest)).version.version == 3
    versions = (await city.call("ListCaseVersions", pb.ListCaseVersionsRequest(name=case.name), WRITER)).versions
    assert [(each.version, pb.CaseVersionState.Name(each.state)[19:]) for each in versions] == [
        (3, "PUBLISHED"), (2, "REPLACED"), (1, "PUBLISHED"),
    ]  # fmt: skip


async def test_the_library_is_searched_by_words_tag_and_type(city: Node) -> None:
    case = await review(city, await keep(city, await event(city, "涂鸦")))
    assert await cases(city, words="敷剂") == [case.name]
    assert await cases(city, words="poultices") == [case.name]
    assert await cases(city, tag="heritage", type=GRAFFITI.name) == [case.name]
    assert await cases(city, words="井盖") == []
    assert await cases(city, type=NOISE.name) == []
    assert await cases(city, tag="bridge") == []


async def test_what_helped_is_counted_once_for_each_event(city: Node) -> None:
    case = await review(city, await keep(city, await event(city, "涂鸦")))
    other = await event(city, "墙面涂鸦")

    async def rate(of: str, subject: str = WRITER, *, helped: bool) -> tuple[int, int]:
        request = pb.RateCaseRequest(name=case.name, event=of, helped=helped)
        rated = (await city.call("RateCase", request, subject)).case
        return rated.helped, rated.did_not_help

    assert await rate(other, helped=False) == (0, 1)
    assert await rate(other, OTHER, helped=True) == (1, 0)
    assert await rate(await event(city, "涂鸦又来了"), helped=True) == (2, 0)
    (first, *_) = await suggest(city, other)
    assert "used for 2 events and helped with 2" in first.explanation.text.en
    with pytest.raises(NotFound):
        await city.call("RateCase", pb.RateCaseRequest(name=f"zones/{D10}/cases/x", event=other), WRITER)


async def test_a_retired_case_is_suggested_no_more(city: Node) -> None:
    case = await review(city, await keep(city, await event(city, "涂鸦")))
    retire = pb.RetireCaseRequest(name=case.name, reason="the poultice is forbidden now")
    with pytest.raises(Forbidden):
        await city.call("RetireCase", retire, WRITER)
    gone = (await city.call("RetireCase", retire, REVIEWER)).case
    assert (gone.HasField("retired_at"), gone.retired_reason) == (True, "the poultice is forbidden now")
    assert not await suggest(city, await event(city, "涂鸦"))
    assert not await cases(city)
    assert (await city.call("GetCase", pb.GetCaseRequest(name=case.name), OFFICER)).case.version.version == 1
    with pytest.raises(WrongState):
        await city.call("RetireCase", retire, REVIEWER)
    with pytest.raises(WrongState):
        await city.call("ReviseCase", pb.ReviseCaseRequest(name=case.name, content=content()), WRITER)


async def test_what_is_not_published_is_not_there_for_others(city: Node) -> None:
    of = await event(city, "涂鸦")
    case = await keep(city, of)
    with pytest.raises(NotFound):
        await city.call("GetCase", pb.GetCaseRequest(name=case.name), OFFICER)
    with pytest.raises(Forbidden):
        await keep(city, of, OFFICER)
    with pytest.raises(Forbidden):
        await keep(city, of, "people/handler.ops")
    with pytest.raises(Forbidden):
        await suggest(city, of, "people/handler.ops")
    with pytest.raises(NotFound):
        await keep(city, f"zones/{D10}/events/none")
    with pytest.raises(Invalid) as refused:
        await keep(city, of, solution={"zh": " "})
    assert [field for field, _ in refused.value.violations] == ["content.solution"]
