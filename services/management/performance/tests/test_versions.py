"""Published versions stay as they are; a change is a further version that says what differs and why."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, NotFound, Stale, WrongState
from quintet.management.v1 import scorecards_pb2 as pb
from services.management.performance.tests.lives import END, START, Life, rate, take_in
from services.management.performance.tests.test_figures import (
    NAME,
    PARTS,
    SOURCE,
    SUPERVISOR,
    behind,
    draft,
    lives_of,
    publish,
    put,
    scores,
)
from services.management.tests import samples

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

LEADER, CREW = "people/leader", "people/handler.works"
MET, NOT_MET = PARTS


async def correct(node: Node, card: pb.Scorecard, *, read_anew: bool = False) -> pb.Scorecard:
    request = pb.CorrectScorecardRequest(name=card.name, reason="申诉成立", read_anew=read_anew)
    found: pb.Scorecard = (await node.call("CorrectScorecard", request, SUPERVISOR)).scorecard
    return found


async def verify(node: Node, card: pb.Scorecard) -> pb.VerifyScorecardResponse:
    found: pb.VerifyScorecardResponse = await node.call(
        "VerifyScorecard", pb.VerifyScorecardRequest(name=card.name), SUPERVISOR
    )
    return found


async def changes(node: Node, card: pb.Scorecard) -> pb.ListScorecardChangesResponse:
    request = pb.ListScorecardChangesRequest(parent=card.name, version=card.version)
    found: pb.ListScorecardChangesResponse = await node.call("ListScorecardChanges", request, SUPERVISOR)
    return found


async def appeal(
    node: Node, card: pb.Scorecard, events: list[str], wanted: Any = MET, *, indicator: str = "on_time", who: str = CREW
) -> pb.Appeal:
    request = pb.FileScorecardAppealRequest(
        parent=card.name, organisation=samples.WORKS, indicator=indicator, wanted=wanted, events=events, reason="停电"
    )
    found: pb.Appeal = (await node.call("FileScorecardAppeal", request, who)).appeal
    return found


async def decide(node: Node, found: pb.Appeal, *, granted: bool = True, who: str = LEADER) -> pb.Appeal:
    request = pb.DecideScorecardAppealRequest(name=found.name, granted=granted, note="the records bear it out")
    decided: pb.Appeal = (await node.call("DecideScorecardAppeal", request, who)).appeal
    return decided


async def works_late(node: Node, card: pb.Scorecard) -> list[str]:
    return [each.event for each in await behind(node, card, "ORGANISATION", samples.WORKS, "on_time", NOT_MET)]


async def published(node: Node) -> tuple[pb.Scorecard, list[Life]]:
    lives = await lives_of(node, 160)
    await put(node)
    return await publish(node, await draft(node)), lives


async def test_what_is_published_is_what_was_looked_at(city: Node) -> None:
    await lives_of(city, 40)
    await put(city)
    looked_at = await draft(city)
    before = await scores(city, looked_at)
    await take_in(city, [Life(1000, "us-ca-sf-d6", samples.NOISE.name, START + timedelta(days=1))])
    card = await publish(city, looked_at)
    assert card.state == pb.SCORECARD_STATE_PUBLISHED
    assert await scores(city, card) == before
    with pytest.raises(WrongState):
        await publish(city, looked_at)
    (fact,) = [message for fact, message in await city.stated() if fact.type.endswith("ScorecardPublished")]
    assert (fact.scorecard.name, fact.scorecard.content_hash) == (card.name, card.content_hash)


async def test_a_published_version_keeps_its_formulas_and_its_events(city: Node) -> None:
    card, lives = await published(city)
    before, late = await scores(city, card), await works_late(city, card)
    await put(city, SOURCE.replace("weight: 20", "weight: 90").replace("response <= 4h", "response <= 1min"))
    for life in lives[:40]:
        await rate(city, life, 1)
    assert await scores(city, card) == before
    assert await works_late(city, card) == late
    assert (await verify(city, card)).intact
    # The correction goes by the formulas of its scorecard, too, and says which events its facts changed.
    again = await publish(city, await correct(city, card, read_anew=True))
    assert again.definition_version == card.definition_version == 1
    told = await changes(city, again)
    assert {figure.after.indicator for figure in told.figures} == {"satisfaction"}
    assert {each.event for each in told.events} <= {life.event for life in lives[:40]}
    assert {each.reason.en for each in told.events} == {"facts that became known after the version before"}
    assert (await verify(city, again)).intact


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE scorecard_events SET verdicts = overlay(verdicts PLACING 'y' FROM 4 FOR 1) WHERE verdicts LIKE '___n%'",
        "DELETE FROM scorecard_events WHERE event_id = (SELECT max(event_id) FROM scorecard_events)",
        "UPDATE scorecard_scores SET score = jsonb_set(score, '{excluded}', '77')",
        "UPDATE scorecards SET period_to = period_to + interval '1 day'",
        "UPDATE scorecard_definition_versions SET source = replace(source, 'weight: 20', 'weight: 21')",
        "UPDATE scorecard_versions SET published_by = 'people/somebody'",
        "UPDATE scorecard_versions SET totals = jsonb_set(totals, '{events}', '1')",
    ],
)
async def test_a_silent_change_is_found(city: Node, tampering: str) -> None:
    card, _ = await published(city)
    assert (await verify(city, card)).intact
    await city.transactions.run(lambda tx: tx.conn.execute(tampering))
    found = await verify(city, card)
    assert not found.intact
    assert list(found.versions[0].faults) == [pb.SEAL_FAULT_CONTENT_DIFFERS]


async def test_who_reckons_the_hash_anew_lacks_the_signature_and_the_chain(city: Node) -> None:
    card, _ = await published(city)
    again = await publish(city, await correct(city, card))
    assert again.previous_hash == card.content_hash
    await city.transactions.run(
        lambda tx: tx.conn.execute("UPDATE scorecard_scores SET score = jsonb_set(score, '{excluded}', '7')")
    )
    forged = (await verify(city, again)).versions[0].content_hash
    await city.transactions.run(
        lambda tx: tx.conn.execute("UPDATE scorecard_versions SET content_hash = $1 WHERE number = 1", forged)
    )
    first, second = (await verify(city, again)).versions
    assert list(first.faults) == [pb.SEAL_FAULT_SIGNATURE_INVALID]
    assert pb.SEAL_FAULT_CHAIN_BROKEN in second.faults


async def test_an_appeal_that_is_granted_counts_in_the_next_version_and_says_so(city: Node) -> None:
    card, _ = await published(city)
    late = await works_late(city, card)
    first, second, third = late[:3]
    asked = await appeal(city, card, [first])
    kept_out = await appeal(city, card, [second], pb.FIGURE_PART_EXCLUDED, indicator="")
    refused = await appeal(city, card, [third])
    for one in (asked, kept_out):
        assert (await decide(city, one)).state == pb.APPEAL_STATE_GRANTED
    assert (await decide(city, refused, granted=False)).state == pb.APPEAL_STATE_REFUSED
    assert await works_late(city, card) == late, "the published version stays as it is"

    next_one = await publish(city, await correct(city, card))
    assert (next_one.version, next_one.reason) == (2, "申诉成立")
    assert await works_late(city, next_one) == late[2:]
    told = await changes(city, next_one)
    by_event = {each.event: each for each in told.events}
    assert by_event.keys() == {first, second}
    assert dict(by_event[first].before) == {"on_time": NOT_MET}
    assert dict(by_event[first].after) == {"on_time": MET}
    assert set(by_event[second].after.values()) == {pb.FIGURE_PART_EXCLUDED}
    assert [list(by_event[event].appeals) for event in (first, second)] == [[asked.name], [kept_out.name]]
    assert by_event[first].reason.zh == "申诉成立，按裁定重新计入"
    whose = {figure.subject for figure in told.figures}
    assert {samples.WORKS, "zones/us-ca-sf"} <= whose
    assert {samples.SEWERS} & whose <= {figure.subject for figure in told.figures if "first" in figure.after.indicator}
    exclusions = {each.code: (each.events, each.text.zh) for each in next_one.exclusions}
    assert exclusions["APPEAL"] == (1, "申诉成立，不计入")
    old = (await city.call("GetScorecard", pb.GetScorecardRequest(name=card.name, version=1), SUPERVISOR)).scorecard
    assert (old.state, old.latest_version) == (pb.SCORECARD_STATE_SUPERSEDED, 2)
    # A further version, with the facts read anew, goes by the same rulings.
    third_one = await publish(city, await correct(city, card, read_anew=True))
    assert (await changes(city, third_one)).figures_total == 0
    assert (await verify(city, third_one)).intact


async def test_who_may_appeal_and_who_decides(city: Node) -> None:
    card, _ = await published(city)
    late = await works_late(city, card)
    others = [each.event for each in await behind(city, card, "ORGANISATION", samples.PARKS, "on_time", NOT_MET)]
    with pytest.raises(Forbidden):
        await appeal(city, card, late[:1], who="people/handler.parks")
    with pytest.raises(Invalid, match="does not count for organisations/public-works"):
        await appeal(city, card, [late[0], others[0]])
    with pytest.raises(Invalid, match="indicator"):
        await appeal(city, card, late[:1], indicator="")
    asked = await appeal(city, card, late[:1])
    with pytest.raises(Forbidden):
        await decide(city, asked, who=CREW)
    city.held[LEADER].organisations = frozenset((samples.WORKS,))
    with pytest.raises(Forbidden, match="belongs to organisations/public-works"):
        await decide(city, asked)
    await decide(city, asked, who=SUPERVISOR)
    with pytest.raises(WrongState):
        await decide(city, asked, who=SUPERVISOR)
    city.clock.advance(timedelta(days=15, seconds=1))
    with pytest.raises(WrongState, match="could be filed until"):
        await appeal(city, card, late[:1])


async def test_an_organisation_sees_its_own_scores_and_no_drafts(city: Node) -> None:
    await lives_of(city, 60)
    await put(city)
    card = await draft(city)
    with pytest.raises(NotFound):
        await city.call("GetScorecard", pb.GetScorecardRequest(name=card.name), CREW)
    await publish(city, card)
    assert (await scores(city, card, CREW)).keys() == {("ORGANISATION", samples.WORKS)}
    assert await behind(city, card, "ORGANISATION", samples.WORKS, "on_time", MET, CREW)
    for kind, subject in (("ORGANISATION", samples.PARKS), ("ZONE", "zones/us-ca-sf")):
        with pytest.raises(Forbidden):
            await behind(city, card, kind, subject, "on_time", MET, CREW)
    listed = await city.call("ListScorecards", pb.ListScorecardsRequest(parent="zones/us-ca-sf"), CREW)
    assert [each.name for each in listed.scorecards] == [card.name]
    with pytest.raises(Forbidden):
        await changes_as(city, card, CREW)
    with pytest.raises(Forbidden):
        await put(city, subject=CREW)


async def changes_as(node: Node, card: pb.Scorecard, subject: str) -> None:
    await node.call("ListScorecardChanges", pb.ListScorecardChangesRequest(parent=card.name), subject)


async def test_a_draft_that_was_made_anew_is_looked_at_again(city: Node) -> None:
    card, _ = await published(city)
    looked_at = await correct(city, card, read_anew=True)
    city.clock.advance(timedelta(minutes=1))
    await correct(city, card, read_anew=True)
    with pytest.raises(Stale):
        await publish(city, looked_at)


async def test_formulas_that_break_rules_are_refused_by_line(city: Node) -> None:
    with pytest.raises(Invalid, match=r"line 30: indicators\[2\]\.that: 'rated_well' at 1 is not a filter"):
        await put(city, SOURCE.replace("that: rating >= 4", "that: rated_well"))
    with pytest.raises(Invalid, match="must be scorecardDefinitions/other"):
        await put(city, name="scorecardDefinitions/other")
    first, second = await put(city), await put(city)
    assert (first.version, second.version) == (1, 1)
    with pytest.raises(Invalid, match="must not lie in the future"):
        await draft(city, START, city.clock.now() + timedelta(days=1))
    with pytest.raises(Invalid, match="by 366 days at most"):
        await draft(city, START - timedelta(days=400), END)
    with pytest.raises(NotFound):
        await draft(city, definition=f"{NAME}-2")
