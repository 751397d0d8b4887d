"""CAP documents against the rules of the standard: section 3.2 of CAP 1.2 and its schema, written out below."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
import shapely

from libs.errors import NotFound
from quintet.common.v1.common_pb2 import LocalText
from quintet.management.v1 import channels_pb2 as pb
from services.management.warnings.model_cap import POLYGON_VERTICES_MAX, Area, Message, MessageType, Sent, rendered
from services.management.warnings.model_indicator import Said
from services.management.warnings.model_warning import Content
from services.management.warnings.tests.samples import D10, act, content, published

if TYPE_CHECKING:
    from services.management.warnings.tests.conftest import Centre

NS = "{urn:oasis:names:tc:emergency:cap:1.2}"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[-+]\d\d:\d\d")
# name, least and greatest number: the sequences of the schema, in their order.
ALERT = (
    ("identifier", 1, 1), ("sender", 1, 1), ("sent", 1, 1), ("status", 1, 1), ("msgType", 1, 1), ("source", 0, 1),
    ("scope", 1, 1), ("restriction", 0, 1), ("addresses", 0, 1), ("code", 0, 99), ("note", 0, 1),
    ("references", 0, 1), ("incidents", 0, 1), ("info", 0, 99),
)  # fmt: skip
INFO = (
    ("language", 0, 1), ("category", 1, 99), ("event", 1, 1), ("responseType", 0, 99), ("urgency", 1, 1),
    ("severity", 1, 1), ("certainty", 1, 1), ("audience", 0, 1), ("eventCode", 0, 99), ("effective", 0, 1),
    ("onset", 0, 1), ("expires", 0, 1), ("senderName", 0, 1), ("headline", 0, 1), ("description", 0, 1),
    ("instruction", 0, 1), ("web", 0, 1), ("contact", 0, 1), ("parameter", 0, 99), ("resource", 0, 99),
    ("area", 0, 99),
)  # fmt: skip
AREA = (
    ("areaDesc", 1, 1), ("polygon", 0, 99), ("circle", 0, 99), ("geocode", 0, 99), ("altitude", 0, 1),
    ("ceiling", 0, 1),
)  # fmt: skip
WORDS = {
    "status": {"Actual", "Exercise", "System", "Test", "Draft"},
    "msgType": {"Alert", "Update", "Cancel", "Ack", "Error"},
    "scope": {"Public", "Restricted", "Private"},
    "category": {"Geo", "Met", "Safety", "Security", "Rescue", "Fire", "Health", "Env", "Transport", "Infra", "CBRNE",
                 "Other"},
    "responseType": {"Shelter", "Evacuate", "Prepare", "Execute", "Avoid", "Monitor", "Assess", "AllClear", "None"},
    "urgency": {"Immediate", "Expected", "Future", "Past", "Unknown"},
    "severity": {"Extreme", "Severe", "Moderate", "Minor", "Unknown"},
    "certainty": {"Observed", "Likely", "Possible", "Unlikely", "Unknown"},
}  # fmt: skip


def checked(xml: str) -> ET.Element:
    """Parse a document and hold it against the standard."""
    alert = ET.fromstring(xml)  # noqa: S314 - our own document
    assert alert.tag == f"{NS}alert"
    _sequence(alert, ALERT)
    for name in ("identifier", "sender"):
        assert not re.search(r"[\s,<&]", text(alert, name)), name
    assert TIME.fullmatch(text(alert, "sent"))
    for reference in text(alert, "references").split():
        sender, identifier, sent = reference.split(",")
        assert sender
        assert identifier
        assert TIME.fullmatch(sent)
    assert (text(alert, "msgType") == "Alert") == (not text(alert, "references"))
    for info in alert.findall(f"{NS}info"):
        _sequence(info, INFO)
        assert TIME.fullmatch(text(info, "expires"))
        for area in info.findall(f"{NS}area"):
            _sequence(area, AREA)
            for polygon in area.findall(f"{NS}polygon"):
                pairs = (polygon.text or "").split()
                assert len(pairs) >= 4
                assert pairs[0] == pairs[-1]
                for pair in pairs:
                    latitude, longitude = map(float, pair.split(","))
                    assert -90 <= latitude <= 90
                    assert -180 <= longitude <= 180
    for name, words in WORDS.items():
        assert {found.text for found in alert.iter(f"{NS}{name}")} <= words, name
    return alert


def _sequence(element: ET.Element, allowed: tuple[tuple[str, int, int], ...]) -> None:
    found = [child.tag.removeprefix(NS) for child in element]
    order = [name for name, _, _ in allowed]
    assert found == sorted(found, key=order.index)
    for name, least, most in allowed:
        assert least <= found.count(name) <= most, name


def text(element: ET.Element, name: str) -> str:
    return element.findtext(f"{NS}{name}") or ""


def message(**changes: object) -> Message:
    square = shapely.box(-122.41, 37.75, -122.39, 37.77)
    values: dict[str, object] = {
        "identifier": "sf.us-ca-sf-d10.w1.1",
        "sender": "sf",
        "sender_name": "San Francisco",
        "sent_at": datetime(2026, 1, 5, 8, 0, tzinfo=UTC),
        "kind": MessageType.ALERT,
        "content": Content(
            event=Said("暴雨", "Heavy rain"),
            headline=Said("暴雨预警", "Heavy rain <warning> & more"),
            description=Said("未来三小时有暴雨", "Rain\x00 in \ufffethree hours"),
            instruction=Said("请勿外出", "Stay indoors"),
            level=2,
            category="Met",
            urgency="Expected",
            certainty="Likely",
            expires_at=datetime(2026, 1, 5, 14, 0, tzinfo=UTC),
            zones=(D10,),
        ),
        "areas": (Area(D10, ("第十监督区", "Supervisor District 10"), square),),
    }
    return Message(**(values | changes))  # type: ignore[arg-type]


def test_an_alert_says_it_in_both_languages() -> None:
    alert = checked(rendered(message()))
    assert text(alert, "sent") == "2026-01-05T08:00:00-00:00"
    chinese, english = alert.findall(f"{NS}info")
    assert (text(chinese, "language"), text(english, "language")) == ("zh-CN", "en")
    assert (text(chinese, "headline"), text(english, "headline")) == ("暴雨预警", "Heavy rain <warning> & more")
    assert text(english, "description") == "Rain in three hours"
    assert text(english, "severity") == "Severe"
    area = chinese.find(f"{NS}area")
    assert area is not None
    assert text(area, "areaDesc") == "第十监督区 / Supervisor District 10"
    assert "37.750000,-122.390000" in text(area, "polygon")
    assert area.findtext(f"{NS}geocode/{NS}value") == D10


def test_a_boundary_of_thousands_of_points_and_many_parts_becomes_few_polygons() -> None:
    ragged = shapely.MultiPolygon([shapely.Point(-122 + place, 37).buffer(0.3, quad_segs=2000) for place in range(3)])
    alert = checked(rendered(message(areas=(Area(D10, (), ragged),))))
    polygons = [polygon.text or "" for polygon in alert.iter(f"{NS}polygon")]
    assert len(polygons) == 6  # three parts, twice
    assert all(len(polygon.split()) <= POLYGON_VERTICES_MAX for polygon in polygons)


def test_an_update_and_a_cancel_refer_to_what_was_said_before() -> None:
    before = (Sent("a.1", datetime(2026, 1, 5, 8, tzinfo=UTC)), Sent("a.2", datetime(2026, 1, 5, 9, tzinfo=UTC)))
    update = checked(rendered(message(kind=MessageType.UPDATE, before=before)))
    assert text(update, "references") == "sf,a.1,2026-01-05T08:00:00-00:00 sf,a.2,2026-01-05T09:00:00-00:00"
    cancel = checked(rendered(message(kind=MessageType.CANCEL, before=before, ending=Said("雨停", "Over"))))
    info = cancel.find(f"{NS}info")
    assert info is not None
    assert (text(info, "responseType"), text(info, "description")) == ("AllClear", "雨停")


async def test_a_warning_is_an_alert_then_an_update_then_a_cancel(centre: Centre) -> None:
    warning = await published(centre, exercise=True)

    async def said(number: int) -> ET.Element:
        request = pb.GetCapMessageRequest(name=f"{warning.name}/capMessages/{number}")
        return checked((await centre.ask("GetCapMessage", request, "")).message.xml)

    async def listed() -> list[str]:
        request = pb.ListCapMessagesRequest(parent=f"zones/{D10}")
        return [each.name for each in (await centre.ask("ListCapMessages", request, "")).messages]

    assert await listed() == [f"{warning.name}/capMessages/1"]
    alert = await said(1)
    assert (text(alert, "msgType"), text(alert, "status")) == ("Alert", "Exercise")
    await act(centre, "Revise", warning.name, content=content(centre))
    await act(centre, "Publish", warning.name)
    update = await said(2)
    assert text(update, "msgType") == "Update"
    assert text(update, "references").split(",")[1] == text(alert, "identifier")
    assert await listed() == [f"{warning.name}/capMessages/2"]
    await act(centre, "End", warning.name, ending=LocalText(zh="雨停", en="Over"))
    cancel = await said(3)
    assert text(cancel, "msgType") == "Cancel"
    assert len(text(cancel, "references").split()) == 2
    assert await listed() == []
    for unknown in ("4", "x", "9999999999"):
        request = pb.GetCapMessageRequest(name=f"{warning.name}/capMessages/{unknown}")
        with pytest.raises(NotFound):
            await centre.ask("GetCapMessage", request, "")
