"""Evidence that another node keeps, as the people of this node see it: opened here, fetched from there."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from libs.errors import Away, DomainError, Forbidden, NotFound, Reason, WrongState
from quintet.federation.v1 import federation_pb2
from quintet.management.v1 import evidence_pb2
from services.management.evidence.elsewhere import FILE_BYTES_MAX
from services.management.evidence.tests.handling import JPEG, OFFICER, read, uploaded
from services.management.tiers.tests.story import ask, dispatched, family

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.management.tests.conftest import MakeNode
    from services.management.tiers.tests.story import Family

PHOTO = JPEG * 2000  # more than one part


class Link:
    """Federation as management sees it: `sent` comes of whatever is asked for, or `refusal`."""

    def __init__(self) -> None:
        self.sent = PHOTO
        self.described: dict[str, Any] = {}
        self.refusal: DomainError | None = None
        self.asked: list[federation_pb2.FetchEventEvidenceRequest] = []

    async def FetchEventEvidence(
        self, request: federation_pb2.FetchEventEvidenceRequest, **_options: Any
    ) -> AsyncIterator[federation_pb2.FetchEventEvidenceResponse]:
        self.asked.append(request)
        if self.refusal is not None:
            raise self.refusal
        about = {"name": request.name, "sha256": hashlib.sha256(self.sent).digest()} | self.described
        half = len(self.sent) // 2
        first, last = self.sent[:half], self.sent[half:]
        yield federation_pb2.FetchEventEvidenceResponse(evidence=evidence_pb2.Evidence(**about), content=first)
        yield federation_pb2.FetchEventEvidenceResponse(content=last)


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link:
    found = Link()
    monkeypatch.setattr("services.management.evidence.wiring.FederationServiceStub", lambda _channel: found)
    return found


@pytest_asyncio.fixture
async def both(link: Link, make_node: MakeNode) -> Family:
    return await family(make_node)


async def test_the_city_opens_a_photo_of_the_district(both: Family, link: Link) -> None:
    event = await dispatched(both.district)
    photo = await uploaded(both.district, event, PHOTO)
    await both.talk()
    evidence, content = await read(both.city, photo, OFFICER)
    assert (evidence.name, content) == (photo, PHOTO)
    (asked,) = link.asked
    assert (asked.name, asked.actor, asked.keeper) == (photo, OFFICER, "sf-d10")
    assert (await read(both.district, photo))[1] == PHOTO  # its own: nobody is asked
    assert len(link.asked) == 1


async def test_who_took_an_event_over_and_who_gave_it_up_see_the_photos_of_both(both: Family, link: Link) -> None:
    event = await dispatched(both.district)
    before = await uploaded(both.district, event, PHOTO)
    await both.talk()
    await ask(both.city, event)
    await both.talk()
    after = await uploaded(both.city, event, JPEG, OFFICER)
    assert (await read(both.city, before, OFFICER))[1] == PHOTO
    assert (await read(both.city, after, OFFICER))[1] == JPEG
    link.sent = JPEG
    assert (await read(both.district, after, OFFICER))[1] == JPEG
    assert [(asked.name, asked.keeper) for asked in link.asked] == [(before, "sf-d10"), (after, "sf")]


async def test_nobody_is_asked_for_what_can_only_be_here_or_by_who_may_not_see_it(both: Family, link: Link) -> None:
    event = await dispatched(both.district)
    await both.talk()
    with pytest.raises(NotFound):
        await read(both.district, f"{event}/evidence/none")
    with pytest.raises(Forbidden):
        await read(both.city, f"{event}/evidence/none", "people/handler.parks")
    assert not link.asked


@pytest.mark.parametrize(
    "described",
    [{"sha256": b"x" * 32}, {"name": "zones/us-ca-sf-d10/events/other/evidence/e"}, {"sha256": b""}],
    ids=["hash", "name", "no hash"],
)
async def test_what_came_must_be_what_was_uploaded(both: Family, link: Link, described: dict[str, Any]) -> None:
    event = await dispatched(both.district)
    await both.talk()
    link.described = described
    with pytest.raises(WrongState) as refused:
        await read(both.city, f"{event}/evidence/e", OFFICER)
    assert refused.value.reason == Reason.EVIDENCE_DAMAGED


async def test_no_more_is_taken_than_a_file_may_have(both: Family, link: Link) -> None:
    event = await dispatched(both.district)
    await both.talk()
    link.sent = b"x" * (FILE_BYTES_MAX + 2)
    with pytest.raises(WrongState):
        await read(both.city, f"{event}/evidence/e", OFFICER)


@pytest.mark.parametrize(
    "refusal",
    [
        Away(Reason.PEER_AWAY, "sf-d10 is away", peer="sf-d10", since="2026-11-22"),
        Forbidden(Reason.NOT_PERMITTED, "contracts/c does not let it be asked for"),
        NotFound(Reason.EVIDENCE_NOT_FOUND, "it does not exist"),
    ],
    ids=["away", "forbidden", "nowhere"],
)
async def test_why_it_cannot_be_had_is_said(both: Family, link: Link, refusal: DomainError) -> None:
    event = await dispatched(both.district)
    await both.talk()
    link.refusal = refusal
    with pytest.raises(type(refusal)) as caught:
        await read(both.city, f"{event}/evidence/e", OFFICER)
    assert (caught.value.reason, caught.value.message) == (refusal.reason, refusal.message)


async def test_without_federation_what_is_elsewhere_is_away(make_node: MakeNode) -> None:
    both = await family(make_node)
    event = await dispatched(both.district)
    await both.talk()
    with pytest.raises(Away) as away:
        await read(both.city, f"{event}/evidence/e", OFFICER)
    assert away.value.reason == Reason.DEPENDENCY_AWAY
