"""Scorecards (行政问效): a supervisor declares and publishes, the crew objects, the next version says what changed."""

from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest

from e2e.federation import Caller, Federation, Refused, until
from e2e.street import People, people_of

ZONE = "us-ca-sf-d10-potrero-hill"
CREW = "organisations/potrero-hill.public-works"
DESK = "organisations/potrero-hill.service-desk"
FORMULAS = """\
name: scorecardDefinitions/{id}
title: {{zh: 街道处置质效, en: Handling at the street}}
counts_by: opened
subjects: [organisation, zone, tier]
excludes: [TIME_REVERSED]
appeal_days: 5
indicators:
  - id: resolution
    title: {{zh: 解决率, en: Resolution rate}}
    of: dispatched and not voided
    that: closed and not reopened
    weight: 50
    points: {{none_at: 0, full_at: 100}}
  - id: satisfaction
    title: {{zh: 满意率, en: Satisfaction rate}}
    of: rated
    that: rating >= 4
    weight: 30
    points: {{none_at: 0, full_at: 100}}
  - id: returns
    title: {{zh: 退回率, en: Return rate}}
    of: dispatched
    that: returned
    credited_to: first
    weight: 20
    points: {{none_at: 100, full_at: 0}}
"""
# A scorecard of its own for each run of the test, on a federation that stays up.
FORMULAS_ID = f"street-{token_hex(4)}"


@pytest.fixture
def people(federation: Federation) -> Iterator[People]:
    """Residents of the city, its supervisor, and those of the street."""
    logins = {
        "crew": "handler.potrero-hill.public-works",
        "desk": "handler.potrero-hill.service-desk",
        "officer": "duty-officer.potrero-hill",
        "dispatcher": "dispatcher.potrero-hill",
        "verifier": "verifier.potrero-hill",
        "supervisor": "supervisor.potrero-hill",
    }
    with people_of(federation, city={"resident": "resident.01", "city": "supervisor.sf"}, street=logins) as found:
        yield found


def test_a_street_is_scored_the_crew_appeals_and_the_next_version_says_what_changed(people: People) -> None:
    supervisor, crew, since = people["supervisor"], people["crew"], datetime.now(UTC) - timedelta(seconds=1)
    _declare(supervisor)
    request, solved = _reported(people, "墙上有涂鸦")
    _solve(people, solved)
    _rate(people, request, solved, 5)
    sent_back = _opened(people, "涂鸦在另一条街上")
    crew.post(f"/v1/{sent_back}:advance", {"action": "return", "reason": "不在本街道作业范围"})
    until_now = datetime.now(UTC)

    # What the draft counts is what happened, and each figure opens its events.
    card = _draft(supervisor, ZONE, since, until_now)
    assert (card["state"], card["events"], card["title"]["zh"]) == ("SCORECARD_STATE_DRAFT", 2, "街道处置质效")
    score = _scores(supervisor, card)[CREW]
    assert _figures(score) == {"resolution": (1, 1), "satisfaction": (1, 1), "returns": (1, 2)}
    assert score["points"] == 90
    assert _behind(supervisor, card, CREW, "returns", "MET") == [sent_back]
    assert _behind(supervisor, card, CREW, "satisfaction", "MET") == [solved]
    assert crew.refused("GET", f"/v1/{card['name']}") == Refused(404, "SCORECARD_NOT_FOUND")

    published = _publish(supervisor, card)
    assert published["state"] == "SCORECARD_STATE_PUBLISHED"
    # The crew sees its own scores, and nobody else's.
    assert list(_scores(crew, card)) == [CREW]
    other = {"kind": "SUBJECT_KIND_ZONE", "subject": f"zones/{ZONE}", "indicator": "returns"}
    assert crew.http.get(f"/v1/{card['name']}/figureEvents", params=other).status_code == 403

    # It objects, and another organisation's supervisor decides.
    objection = {
        "organisation": CREW, "indicator": "returns", "wanted": "FIGURE_PART_EXCLUDED", "events": [sent_back],
        "reason": "派错街道",
    }  # fmt: skip
    assert people["desk"].refused("POST", f"/v1/{card['name']}/appeals", objection) == Refused(403, "NOT_PERMITTED")
    appeal = crew.post(f"/v1/{card['name']}/appeals", objection)["appeal"]
    assert crew.refused("POST", f"/v1/{appeal['name']}:decide", {"granted": True, "note": "ours"}).status == 403
    decided = supervisor.post(f"/v1/{appeal['name']}:decide", {"granted": True, "note": "核实属实"})["appeal"]
    assert decided["state"] == "APPEAL_STATE_GRANTED"

    corrected = supervisor.post(f"/v1/{card['name']}:correct", {"reason": "申诉成立"})["scorecard"]
    assert corrected["version"] == 2
    _publish(supervisor, corrected)
    assert _figures(_scores(supervisor, corrected)[CREW])["returns"] == (0, 1)
    changes = supervisor.get(f"/v1/{card['name']}/changes", version=2)
    assert changes["reason"] == "申诉成立"
    (change,) = changes["events"]
    assert (change["event"], change["appeals"]) == (sent_back, [appeal["name"]])
    assert change["reason"]["zh"] == "申诉成立，按裁定重新计入"
    assert change["reason"]["en"] == "counts otherwise by an appeal that was granted"
    assert {figure["subject"] for figure in changes["figures"]} == {CREW, f"zones/{ZONE}", "street"}
    # The first version is still what it was, and both are as they were published.
    first = supervisor.get(f"/v1/{card['name']}", version=1)["scorecard"]
    assert (first["state"], first["contentHash"]) == ("SCORECARD_STATE_SUPERSEDED", published["contentHash"])
    assert _figures(_scores(supervisor, card)[CREW])["returns"] == (1, 2)
    seals = supervisor.get(f"/v1/{card['name']}:verify")
    assert (seals["intact"], [seal["version"] for seal in seals["versions"]]) == (True, [1, 2])


def test_the_city_scores_the_street_by_what_its_facts_tell(people: People) -> None:
    supervisor, city, since = people["supervisor"], people["city"], datetime.now(UTC) - timedelta(seconds=1)
    _declare(supervisor)
    _declare(city)
    request, solved = _reported(people, "Tags on the wall")
    _solve(people, solved)
    _rate(people, request, solved, 2)
    until_now = datetime.now(UTC)

    def same() -> Any:
        """The city's figures of the crew, as soon as all facts have come up."""
        card = _draft(city, ZONE, since, until_now)
        found = _scores(city, card).get(CREW)
        rated = found and _figures(found)["satisfaction"][1]
        return (card, found) if rated and _figures(found)["resolution"] == (1, 1) else None

    card, found = until("the city's figures", same)
    own = _scores(supervisor, _draft(supervisor, ZONE, since, until_now))[CREW]
    assert found == own
    assert _figures(found) == {"resolution": (1, 1), "satisfaction": (0, 1), "returns": (0, 1)}
    assert _behind(city, card, CREW, "satisfaction", "NOT_MET") == [solved]
    (limit,) = card["limits"]
    assert limit["zh"].startswith("其中1件由其他节点办理")
    assert limit["en"].startswith("1 events are handled by other nodes")


def test_a_formula_that_is_not_of_the_language_is_refused_by_its_line(people: People) -> None:
    source = FORMULAS.format(id=FORMULAS_ID).replace("rating >= 4", "SELECT 1")
    answer = people["supervisor"].http.put(f"/v1/scorecardDefinitions/{FORMULAS_ID}", json={"source": source})
    assert answer.status_code == 400
    assert "line 17: indicators[1].that: 'SELECT' at 1 is not a filter" in answer.text
    # The crew does not write its own marks.
    own = people["crew"].refused("PUT", f"/v1/scorecardDefinitions/{FORMULAS_ID}", {"source": source})
    assert own == Refused(403, "NOT_PERMITTED")


def test_a_report_of_a_topic_is_read_in_both_languages_and_printed(people: People) -> None:
    supervisor, since = people["supervisor"], datetime.now(UTC) - timedelta(seconds=1)
    solved, left = _opened(people, "Tags on the wall"), _opened(people, "又一处涂鸦")
    _solve(people, solved)
    topic = {
        "kind": "REPORT_KIND_TOPICAL", "type": "eventTypes/graffiti", "organisation": CREW,
        "periodFrom": since.isoformat(), "periodTo": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    assert people["crew"].refused("POST", f"/v1/zones/{ZONE}/reports", topic) == Refused(403, "NOT_PERMITTED")
    report = supervisor.post(f"/v1/zones/{ZONE}/reports", topic)["report"]
    assert (report["opened"], report["closed"], report["late"]) == (2, 1, 0)
    assert int(report["waiting"]) >= 1, f"{left} is open, with what else the crew has"
    for language, title, crew in (
        ("ZH", "波特雷罗山 专题报告：涂鸦", "仅限承办组织 波特雷罗山市政班组"),
        ("EN", "Topical report: Graffiti, Potrero Hill", "What Potrero Hill: public works crew has, alone"),
    ):
        page = supervisor.get(f"/v1/{report['name']}", language=f"REPORT_LANGUAGE_{language}")
        text = b64decode(page["content"]).decode()
        assert f"<h1>{title}</h1>" in text
        assert crew in text
        assert "<svg" in text
        printed = supervisor.get(
            f"/v1/{report['name']}", language=f"REPORT_LANGUAGE_{language}", format="REPORT_FORMAT_PDF"
        )
        assert (printed["mediaType"], b64decode(printed["content"])[:5]) == ("application/pdf", b"%PDF-")
    listed = supervisor.get(f"/v1/zones/{ZONE}/reports")["reports"]
    assert listed[0]["name"] == report["name"]


def test_a_daily_report_says_what_rises_or_why_it_cannot_tell(people: People) -> None:
    report = people["supervisor"].post(f"/v1/zones/{ZONE}/reports", {"kind": "REPORT_KIND_DAILY"})["report"]
    for language, headings in (("ZH", ("新出现的问题", "热点")), ("EN", ("Emerging issues", "Hot spots"))):
        page = people["supervisor"].get(f"/v1/{report['name']}", language=f"REPORT_LANGUAGE_{language}")
        text = b64decode(page["content"]).decode()
        assert all(f"<h2>{heading}</h2>" in text for heading in headings)
        # The street has no events of the day before: neither history nor places.
        assert "4个同星期的24小时窗口" in text or "4 windows of 24 h" in text
        assert "少于30个" in text or "fewer than 30" in text


# ------------------------------------------------------------------------------------------------------------- in steps


def _declare(supervisor: Caller) -> None:
    path = f"/v1/scorecardDefinitions/{FORMULAS_ID}"
    definition = supervisor.put(path, {"source": FORMULAS.format(id=FORMULAS_ID)})["definition"]
    assert [each["title"]["en"] for each in definition["indicators"]][:2] == ["Resolution rate", "Satisfaction rate"]


def _reported(people: People, words: str) -> tuple[str, str]:
    """A resident's request and the event that the street's crew has for it."""
    place = {"address": f"{token_hex(4)} Avenue", "zoneHint": ZONE, "neighbourhood": "Potrero Hill"}
    body = {"type": "eventTypes/graffiti", "description": words, "place": place}
    request = people["resident"].post("/v1/requests", body)["request"]["name"]
    event = people["resident"].follow(request, lambda found: found.get("event"))["event"]
    until("the event at the street", lambda: people["officer"].http.get(f"/v1/{event}").is_success)
    _to_the_crew(people, event)
    return request, event


def _opened(people: People, words: str) -> str:
    body = {"type": "eventTypes/graffiti", "description": words, "place": {"address": f"{token_hex(4)} Avenue"}}
    event: str = people["officer"].post(f"/v1/zones/{ZONE}/events", body)["event"]["name"]
    _to_the_crew(people, event)
    return event


def _to_the_crew(people: People, event: str) -> None:
    people["officer"].post(f"/v1/{event}:advance", {"action": "file"})
    people["dispatcher"].post(f"/v1/{event}:advance", {"action": "dispatch", "organisation": CREW})


def _solve(people: People, event: str) -> None:
    people["crew"].post(f"/v1/{event}:advance", {"action": "dispose", "reason": "painted over"})
    people["crew"].post(f"/v1/{event}:advance", {"action": "feed_back", "answer": "已清除 Cleaned"})
    people["verifier"].post(f"/v1/{event}:advance", {"action": "verify", "reason": "seen on the spot"})


def _rate(people: People, request: str, event: str, rating: int) -> None:
    """Rate a request as soon as it is answered, and wait until its street knows."""
    people["resident"].follow(request, lambda found: found["status"] == "REQUEST_STATUS_CLOSED")
    people["resident"].post(f"/v1/{request}:rate", {"rating": rating, "comment": "quick"})
    opened_at = datetime.fromisoformat(people["officer"].get(f"/v1/{event}")["event"]["openedAt"])

    def known() -> bool:
        card = _draft(people["supervisor"], ZONE, opened_at, opened_at + timedelta(milliseconds=1))
        part = "MET" if rating >= 4 else "NOT_MET"
        return event in _behind(people["supervisor"], card, CREW, "satisfaction", part)

    until("the rating at the street", known)


def _draft(supervisor: Caller, zone: str, since: datetime, until_then: datetime) -> Any:
    body = {
        "definition": f"scorecardDefinitions/{FORMULAS_ID}",
        "periodFrom": since.isoformat(),
        "periodTo": until_then.isoformat(),
    }
    return supervisor.post(f"/v1/zones/{zone}/scorecards", body)["scorecard"]


def _publish(supervisor: Caller, card: Any) -> Any:
    looked_at = {"version": card["version"], "asOf": card["asOf"]}
    return supervisor.post(f"/v1/{card['name']}:publish", looked_at)["scorecard"]


def _scores(reader: Caller, card: Any) -> dict[str, Any]:
    page = reader.get(f"/v1/{card['name']}/scores", version=card["version"])
    return {score["subject"]: score for score in page["scores"]}


def _figures(score: Any) -> dict[str, tuple[int, int]]:
    return {each["indicator"]: (each["numerator"], each["denominator"]) for each in score["figures"]}


def _behind(reader: Caller, card: Any, organisation: str, indicator: str, part: str) -> list[str]:
    page = reader.get(
        f"/v1/{card['name']}/figureEvents", version=card["version"], kind="SUBJECT_KIND_ORGANISATION",
        subject=organisation, indicator=indicator, part=f"FIGURE_PART_{part}",
    )  # fmt: skip
    return [each["event"] for each in page["events"]]
