"""The monitoring and warning centre: a figure crosses its threshold, people warn the city, and say what came of it."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from secrets import token_hex
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

import pytest

from e2e.federation import Caller, Federation, Refused, until

# The city itself handles this district.
DISTRICT = "us-ca-sf-d5"
WORKS = "organisations/public-works-north"
ATOM = "{http://www.w3.org/2005/Atom}"
CAP = "{urn:oasis:names:tc:emergency:cap:1.2}"
_numbers = count(1)


@pytest.fixture
def city(federation: Federation) -> Any:
    return federation.node("sf")


def test_a_figure_crosses_its_threshold_and_the_city_is_warned(city: Any) -> None:
    with ExitStack() as stack:
        admin, resident, officer, leader, crew, supervisor, anybody = (
            stack.enter_context(city.signed_in(login) if login else city.anonymous())
            for login in (
                *("node-admin", "resident.01", "duty-officer.sf", "leader.sf", "handler.public-works-north"),
                *("supervisor.sf", ""),
            )
        )
        indicator = _declare(admin)
        for _ in range(3):
            _file(resident)
        warning = _drafted_by_the_indicator(officer, indicator)
        _published_by_two(officer, leader, warning)
        _seen_by_everybody(anybody, warning)
        _acknowledged(officer, crew, leader, warning)
        _visited(officer, warning)
        _ended_and_reviewed(anybody, officer, supervisor, warning)


# ------------------------------------------------------------------------------------------------------------- in steps


def _declare(admin: Caller) -> str:
    """An administrator declares: sewer odours reported per hour; three in the fifth district are grave."""
    name = f"indicators/sewer-odours-{token_hex(4)}"
    indicator = {
        "name": name,
        "title": {"zh": "每小时下水道异味", "en": "Sewer odours per hour"},
        "unit": {"zh": "件", "en": "events"},
        "facts": [
            {
                "type": "quintet.management.v1.EventOpened",
                "where": [{"field": "event.type", "equals": "eventTypes/sewer-odour"}],
            }
        ],
        "aggregation": "AGGREGATION_COUNT",
        "windowMinutes": 60,
        "thresholds": [
            {
                "level": "LEVEL_II",
                "comparator": "COMPARATOR_AT_LEAST",
                "value": 3,
                "clearValue": 1,
                "zones": [DISTRICT],
                "category": "WARNING_CATEGORY_HEALTH",
                "headline": {"zh": "下水道气体预警", "en": "Sewer gas warning"},
                "instruction": {"zh": "请开窗通风", "en": "Open the windows"},
            }
        ],
    }
    misspelt = indicator | {
        "facts": [{"type": "quintet.management.v1.EventOpened", "where": [{"field": "event.kind"}]}]
    }
    assert admin.refused("PUT", f"/v1/{name}", misspelt) == Refused(400, "FIELD_INVALID")
    stored = admin.put(f"/v1/{name}", indicator)["indicator"]
    assert stored["version"] == 1
    return name


def _file(resident: Caller) -> None:
    """A resident smells something, each time at another address."""
    report = {
        "type": "eventTypes/sewer-odour",
        "description": "filed by a test",
        "place": {"address": f"{next(_numbers)} {token_hex(4)} Street", "zoneHint": "5"},
        "requestId": str(uuid4()),
    }
    filed = resident.post("/v1/requests", report)["request"]["name"]
    resident.follow(filed, lambda found: found["event"])


def _drafted_by_the_indicator(officer: Caller, indicator: str) -> str:
    """The duty officer sees the figure, and finds a draft that says why in both languages."""
    figure = until("three odours", lambda: _value(officer, indicator) == 3 and _value(officer, indicator))
    assert figure == 3

    def drafted() -> Any:
        listed = officer.get(f"/v1/zones/{DISTRICT}/publicWarnings", state="PUBLIC_WARNING_STATE_DRAFT")
        return next((found for found in listed["warnings"] if found["source"] == indicator), None)

    warning = until("the draft", drafted)
    why = warning["explanation"]
    assert (why["rule"], why["inputs"]["value"], why["inputs"]["limit"]) == (indicator, "3", "3")
    assert "每小时下水道异味" in why["text"]["zh"]
    assert "Sewer odours per hour" in why["text"]["en"]
    entries = officer.get("/v1/zones/us-ca-sf/centreEntries", activeOnly=True)["entries"]
    assert warning["name"] in {entry["name"] for entry in entries}
    name: str = warning["name"]
    return name


def _value(officer: Caller, indicator: str) -> float:
    found = officer.get(f"/v1/{indicator}/values", zone="us-ca-sf")
    return float(next(zone["value"] for zone in found["zones"] if zone["zone"] == DISTRICT))


def _published_by_two(officer: Caller, leader: Caller, warning: str) -> None:
    """The officer words it; a grave warning is approved by the leader before it goes out."""
    content = {
        "event": {"zh": "有害气体", "en": "Harmful gas"},
        "headline": {"zh": "下水道气体预警", "en": "Sewer gas warning"},
        "description": {"zh": "多处报告下水道异味", "en": "Sewer gas was smelt at several places"},
        "instruction": {"zh": "请开窗通风，勿用明火", "en": "Open the windows and light no fire"},
        "level": "LEVEL_II",
        "category": "WARNING_CATEGORY_HEALTH",
        "urgency": "WARNING_URGENCY_IMMEDIATE",
        "certainty": "WARNING_CERTAINTY_OBSERVED",
        "audience": {"zones": [DISTRICT], "organisations": [WORKS], "roles": ["roles/leader"]},
        "acknowledgeMinutes": 30,
        "expiresAt": (datetime.now(UTC) + timedelta(hours=6)).isoformat(),
    }
    one_language = content | {"headline": {"zh": "下水道气体预警"}}
    assert officer.refused("POST", f"/v1/{warning}:revise", {"content": one_language}) == Refused(400, "FIELD_INVALID")
    officer.post(f"/v1/{warning}:revise", {"content": content})
    assert officer.refused("POST", f"/v1/{warning}:publish") == Refused(400, "APPROVAL_MISSING")
    assert officer.refused("POST", f"/v1/{warning}:approve") == Refused(403, "NOT_PERMITTED")
    leader.post(f"/v1/{warning}:approve")
    published = officer.post(f"/v1/{warning}:publish")["warning"]
    assert (published["state"], published["approvedBy"]) == ("PUBLIC_WARNING_STATE_PUBLISHED", "people/leader.sf")


def _seen_by_everybody(anybody: Caller, warning: str) -> None:
    """A resident reads it without an account; other systems take the feed and the document behind it."""
    seen = anybody.get(f"/v1/zones/{DISTRICT}/warningsInForce")["warnings"]
    found = next(each for each in seen if each["name"] == warning)
    assert found["headline"] == {"zh": "下水道气体预警", "en": "Sewer gas warning"}
    assert anybody.refused("GET", f"/v1/{warning}") == Refused(401, "TOKEN_MISSING")

    feed = _xml(anybody, f"/feeds/warnings.atom?zone={DISTRICT}&lang=zh-CN", "application/atom+xml")
    entry = next(each for each in feed.findall(f"{ATOM}entry") if each.findtext(f"{ATOM}title") == "下水道气体预警")
    link = entry.find(f"{ATOM}link")
    assert link is not None
    alert = _xml(anybody, link.attrib["href"], "application/cap+xml")
    assert [alert.findtext(f"{CAP}{name}") for name in ("sender", "status", "msgType")] == ["sf", "Actual", "Alert"]
    headlines = {info.findtext(f"{CAP}language"): info.findtext(f"{CAP}headline") for info in alert.iter(f"{CAP}info")}
    assert headlines == {"zh-CN": "下水道气体预警", "en": "Sewer gas warning"}
    assert {code.text for code in alert.iter(f"{CAP}value")} >= {DISTRICT}


def _xml(anybody: Caller, path: str, kind: str) -> ET.Element:
    answer = anybody.http.get(path)
    assert answer.is_success, answer.text
    assert answer.headers["content-type"].startswith(kind)
    return ET.fromstring(answer.text)  # noqa: S314 - what our own node wrote


def _acknowledged(officer: Caller, crew: Caller, leader: Caller, warning: str) -> None:
    """Those who must act say that they know, each for themselves only."""
    refused = crew.refused("POST", f"/v1/{warning}:acknowledge", {"recipient": "roles/leader"})
    assert refused == Refused(403, "NOT_PERMITTED")
    crew.post(f"/v1/{warning}:acknowledge", {"recipient": WORKS})
    leader.post(f"/v1/{warning}:acknowledge", {"recipient": "roles/leader"})
    receipts = officer.get(f"/v1/{warning}/receipts")["receipts"]
    assert {receipt["recipient"]: receipt["acknowledgedBy"] for receipt in receipts} == {
        WORKS: "people/handler.public-works-north",
        "roles/leader": "people/leader.sf",
    }


def _visited(officer: Caller, warning: str) -> None:
    """Somebody without a telephone is told at the door, and ticked off."""
    person = {
        "who": "Example Person",
        "where": "12 Example Street",
        "why": "lives alone without a telephone",
        "assignedTo": "people/duty-officer.sf",
    }
    assert officer.post(f"/v1/{warning}/visits:add", {"visits": [person]})["visits"] == 1
    [masked] = officer.get(f"/v1/{warning}/visits")["visits"]
    assert "Example" not in masked["who"] + masked["where"]
    [shown] = officer.get(f"/v1/{warning}/visits", purpose="VISIT_PURPOSE_VISIT")["visits"]
    assert (shown["who"], shown["where"]) == ("Example Person", "12 Example Street")
    officer.post(f"/v1/{shown['name']}:tick", {"outcome": "VISIT_OUTCOME_REACHED", "note": "has opened the windows"})
    found = officer.get(f"/v1/{warning}")["warning"]
    assert (found["visits"], found["visitsDone"]) == (1, 1)


def _ended_and_reviewed(anybody: Caller, officer: Caller, supervisor: Caller, warning: str) -> None:
    """It ends in both languages, is gone from the lists, and the supervisor says what came of it."""
    officer.post(f"/v1/{warning}:end", {"ending": {"zh": "气体已散去", "en": "The gas has gone"}})
    seen = anybody.get(f"/v1/zones/{DISTRICT}/warningsInForce")["warnings"]
    assert warning not in {each["name"] for each in seen}
    messages = [anybody.get(f"/v1/{warning}/capMessages/{number}")["message"]["xml"] for number in (1, 2)]
    assert ET.fromstring(messages[1]).findtext(f"{CAP}msgType") == "Cancel"  # noqa: S314 - what our own node wrote
    review = {"outcome": "WARNING_OUTCOME_TRUE", "notes": "A main had burst; the crew was there within the hour."}
    reviewed = supervisor.post(f"/v1/{warning}:review", review)["warning"]
    assert (reviewed["state"], reviewed["outcome"]) == ("PUBLIC_WARNING_STATE_REVIEWED", "WARNING_OUTCOME_TRUE")
    assert reviewed["ending"] == {"zh": "气体已散去", "en": "The gas has gone"}
