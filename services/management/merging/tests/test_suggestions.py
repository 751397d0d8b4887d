"""What is suggested, what people make of it, and what that says of the thresholds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, NotFound, Reason, WrongState
from quintet.management.v1 import management_pb2
from quintet.management.v1 import merging_pb2 as pb
from services.management.convert import place_pb, time_pb, type_pb
from services.management.merging.tests.moves import DISPATCHER, ZONE, check, file, merge, reports, split, suggestions
from services.management.model import MergePolicy
from services.management.tests.samples import GRAFFITI, NOISE, TWIN_PEAKS, YESTERDAY, north_of
from services.management.tests.story import OFFICER, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

CHINESE = ("围墙上有红色的喷漆涂鸦，影响市容", "墙面被人喷了红色涂鸦")
ENGLISH = ("Red graffiti tags on the retaining wall", "Somebody sprayed red tags on the wall")


async def accept(node: Node, suggestion: str, **more: Any) -> pb.AcceptMergeSuggestionResponse:
    request = pb.AcceptMergeSuggestionRequest(name=suggestion, **more)
    response: pb.AcceptMergeSuggestionResponse = await node.call("AcceptMergeSuggestion", request, DISPATCHER)
    return response


async def dismiss(node: Node, suggestion: str, reason: str = "the next house") -> pb.MergeSuggestion:
    request = pb.DismissMergeSuggestionRequest(name=suggestion, reason=reason)
    found: pb.MergeSuggestion = (await node.call("DismissMergeSuggestion", request, DISPATCHER)).suggestion
    return found


async def quality(node: Node) -> pb.GetMergeQualityResponse:
    request = pb.GetMergeQualityRequest(parent="zones/us-ca-sf")
    response: pb.GetMergeQualityResponse = await node.call("GetMergeQuality", request, "people/supervisor")
    return response


@pytest.mark.parametrize("words", [CHINESE, ENGLISH])
async def test_like_words_a_little_further_off_are_suggested(city: Node, words: tuple[str, str]) -> None:
    first = await file(city, 1, words=words[0])
    second = await file(city, 2, 120, words[1])
    assert second != first
    (found,) = await suggestions(city)
    assert (found.event, found.same_as, found.state) == (second, first, pb.MERGE_SUGGESTION_STATE_OPEN)
    assert found.name.startswith(f"{second}/mergeSuggestions/")
    assert 0.6 <= found.score < 1
    text = found.explanation.text
    assert f"may be the same as {first}" in text.en
    assert f"可能与 {first} 是同一件事" in text.zh
    assert "words" in text.en
    assert "文字" in text.zh
    assert "120" in found.explanation.inputs["distance_m"]
    assert found.explanation.rule == GRAFFITI.name


async def test_who_takes_a_report_down_can_ask_before(city: Node) -> None:
    first = await file(city, 1, words=ENGLISH[0])
    before = await city.stated_types()

    async def ask(metres: float, **more: Any) -> pb.FindDuplicatesResponse:
        place = place_pb(north_of(TWIN_PEAKS, metres))
        values = {"type": GRAFFITI.name, "description": ENGLISH[1], "occurred_at": time_pb(YESTERDAY)} | more
        request = pb.FindDuplicatesRequest(parent="zones/us-ca-sf", place=place, **values)
        response: pb.FindDuplicatesResponse = await city.call("FindDuplicates", request, OFFICER)
        return response

    near, further, nothing = await ask(50), await ask(120), await ask(300)
    assert [each.event for each in near.merged] == [first]
    assert [each.event for each in further.suggested] == [first]
    assert (list(near.suggested), list(further.merged), list(nothing.merged), list(nothing.suggested)) == ([],) * 4
    assert further.suggested[0].score < near.merged[0].score
    assert list((await ask(0, type=NOISE.name)).merged) == [], "a type that is never merged"
    with pytest.raises(NotFound):
        await ask(0, type="eventTypes/none")
    assert await city.stated_types() == before


async def test_unlike_words_and_other_languages_are_not(city: Node) -> None:
    await file(city, 1, words=ENGLISH[0])
    await file(city, 2, 120, "An abandoned car")
    assert await suggestions(city) == []


async def test_who_accepts_merges(city: Node) -> None:
    first, second = await file(city, 1, words=CHINESE[0]), await file(city, 2, 120, CHINESE[1])
    (found,) = await suggestions(city, event=first, state=pb.MERGE_SUGGESTION_STATE_OPEN)
    done = await accept(city, found.name)
    assert (done.event.name, done.event.reports) == (first, 2)
    assert (done.suggestion.state, done.suggestion.decided_by) == (pb.MERGE_SUGGESTION_STATE_ACCEPTED, DISPATCHER)
    (step,) = [each for each in await _steps(city, first) if each.action == "merge"]
    assert "score" in step.reason
    assert "相似度" in step.reason
    for call in (accept, dismiss):
        with pytest.raises(WrongState):
            await call(city, found.name)
    assert await suggestions(city, state=pb.MERGE_SUGGESTION_STATE_OPEN) == []
    assert [each.event for each in await suggestions(city, event=second)] == [second]
    await check(city, 2)


async def test_who_dismisses_says_why(city: Node) -> None:
    await file(city, 1, words=ENGLISH[0])
    await file(city, 2, 120, ENGLISH[1])
    (found,) = await suggestions(city)
    with pytest.raises(Invalid, match="reason"):
        await dismiss(city, found.name, "")
    request = pb.DismissMergeSuggestionRequest(name=found.name, reason="x")
    with pytest.raises(Forbidden):
        await city.call("DismissMergeSuggestion", request, "people/verifier")
    kept = await dismiss(city, found.name)
    assert (kept.state, kept.reason) == (pb.MERGE_SUGGESTION_STATE_DISMISSED, "the next house")
    with pytest.raises(WrongState):
        await accept(city, found.name)
    for name in (f"{found.event}/mergeSuggestions/999", f"{found.same_as}/mergeSuggestions/{found.name[-1]}"):
        with pytest.raises(NotFound) as caught:
            await accept(city, name)
        assert caught.value.reason == Reason.MERGE_SUGGESTION_NOT_FOUND


async def test_what_is_closed_meanwhile_lapses_and_what_is_merged_by_hand_was_right(city: Node) -> None:
    first = await file(city, 1, words=ENGLISH[0])
    second, third = await file(city, 2, 120, ENGLISH[1]), await file(city, 3, -120, ENGLISH[1])
    await merge(city, first, second)
    by_event = {each.event: each for each in await suggestions(city)}
    assert by_event[second].state == pb.MERGE_SUGGESTION_STATE_ACCEPTED
    assert by_event[third].state == pb.MERGE_SUGGESTION_STATE_LAPSED
    with pytest.raises(WrongState):
        await accept(city, by_event[third].name)


async def test_the_figures_say_how_good_it_was(city: Node) -> None:
    first = await file(city, 1, words=ENGLISH[0])
    for number in (2, 3):
        assert await file(city, number, 5.0 * number) == first
    await file(city, 4, 120, ENGLISH[1])
    await file(city, 5, -120, ENGLISH[1])
    one, other = await suggestions(city)
    await accept(city, one.name)
    await dismiss(city, other.name)
    await split(city, (await reports(city, first))[1].name)
    found = await quality(city)
    assert [each.type for each in found.types] == [GRAFFITI.name]
    total = found.total
    assert (total.automatic, total.undone, total.by_hand) == (1, 1, 1)
    assert (total.suggested, total.accepted, total.dismissed) == (2, 1, 1)
    assert (total.automatic_precision, total.suggestion_precision) == (0.5, 0.5)
    empty = pb.GetMergeQualityRequest(parent="zones/us-ca-sf-d6")
    assert not (await city.call("GetMergeQuality", empty, "people/supervisor")).total.HasField("automatic_precision")


async def test_of_two_who_decide_at_once_one_does(city: Node) -> None:
    await file(city, 1, words=ENGLISH[0])
    await file(city, 2, 120, ENGLISH[1])
    (found,) = await suggestions(city)
    results = await asyncio.gather(
        *(accept(city, found.name) for _ in range(3)), dismiss(city, found.name), return_exceptions=True
    )
    assert sum(isinstance(each, WrongState) for each in results) == 3
    await check(city, 2)


async def test_a_type_with_thresholds_of_its_own_and_a_family(city: Node) -> None:
    policy = MergePolicy(100, 72, automatic=0.8, suggested=0.5, family="walls")
    await city.put(replace(GRAFFITI, merge=policy), replace(NOISE, merge=policy))
    first = await file(city, 1, words=ENGLISH[0])
    unlike = await file(city, 2, 60, "Tags and posters")
    assert unlike != first, "near, but not alike enough to be merged without asking"
    assert await file(city, 3, 2, ENGLISH[1]) == first
    kin = await file(city, 4, 3, ENGLISH[1], event_type=NOISE.name)
    assert kin != first
    assert first in {each.same_as for each in await suggestions(city, event=kin)}
    wrong = management_pb2.PutEventTypeRequest(
        event_type=type_pb(replace(GRAFFITI, merge=replace(policy, suggested=0.9)))
    )
    with pytest.raises(Invalid, match="must not be above automatic"):
        await city.call("PutEventType", wrong, "people/admin")


async def test_lists_come_in_pages(city: Node) -> None:
    await file(city, 1, words=ENGLISH[0])
    for number in (2, 3, 4):
        place = {2: 120.0, 3: -120.0, 4: 240.0}[number]
        await file(city, number, place, ENGLISH[1])
    every = [each.name for each in await suggestions(city)]
    assert len(every) >= 3
    found: list[str] = []
    request = pb.ListMergeSuggestionsRequest(parent=f"zones/{ZONE}", page_size=2)
    while True:
        page = await city.call("ListMergeSuggestions", request, OFFICER)
        found += [each.name for each in page.suggestions]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == every
    assert await _seen_by(city, "people/handler.works") == []


async def _steps(node: Node, name: str) -> list[management_pb2.EventStep]:
    await walk(node, name, "file")
    request = management_pb2.ListEventStepsRequest(name=name)
    return list((await node.call("ListEventSteps", request, OFFICER)).steps)


async def _seen_by(node: Node, person: str) -> list[pb.MergeSuggestion]:
    request = pb.ListMergeSuggestionsRequest(parent="zones/us-ca-sf")
    return list((await node.call("ListMergeSuggestions", request, person)).suggestions)
