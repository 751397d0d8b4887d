"""Messages of the Common Alerting Protocol, version 1.2 (OASIS, 1 July 2010), from what a warning says. Pure.

The order of elements, their words and the form of times are those of the standard's section 3 and its schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from xml.etree import ElementTree as ET

import shapely
from shapely.geometry.base import BaseGeometry

from services.management.warnings.model_indicator import Said
from services.management.warnings.model_warning import Content

CAP_NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
# What one polygon may hold: boundaries of districts have thousands of vertices, and a phone draws a hundred.
POLYGON_VERTICES_MAX = 100
POLYGONS_MAX = 20
_SIMPLIFY_FIRST_DEG = 0.0005
_VERTICES_MIN = 4
_SEVERITIES = {1: "Extreme", 2: "Severe", 3: "Moderate", 4: "Minor"}
_COLOURS = {1: "red", 2: "orange", 3: "yellow", 4: "blue"}
_LANGUAGES = (("zh", "zh-CN"), ("en", "en"))


class MessageType(StrEnum):
    """What a message does to those before it."""

    ALERT = "Alert"
    UPDATE = "Update"
    CANCEL = "Cancel"


@dataclass(frozen=True, slots=True)
class Sent:
    """An earlier message of the same warning, as later ones refer to it."""

    identifier: str
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Area:
    """A zone that a warning is for: its code, its names, its boundary where it is known."""

    code: str
    names: tuple[str, ...] = ()
    boundary: BaseGeometry | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What one message says. `sender` names the node for all the world: no blanks, commas, < and &."""

    identifier: str
    sender: str
    sender_name: str
    sent_at: datetime
    kind: MessageType
    content: Content
    areas: tuple[Area, ...]
    before: tuple[Sent, ...] = ()
    ending: Said | None = None


def rendered(message: Message) -> str:
    """Return the document."""
    alert = ET.Element("alert", {"xmlns": CAP_NAMESPACE})
    _add(alert, "identifier", message.identifier)
    _add(alert, "sender", message.sender)
    _add(alert, "sent", time(message.sent_at))
    _add(alert, "status", "Exercise" if message.content.exercise else "Actual")
    _add(alert, "msgType", message.kind)
    _add(alert, "scope", "Public")
    if message.before:
        references = (f"{message.sender},{one.identifier},{time(one.sent_at)}" for one in message.before)
        _add(alert, "references", " ".join(references))
    for language, tag in _LANGUAGES:
        _info(alert, message, language, tag)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(alert, encoding="unicode")


def time(at: datetime) -> str:
    """Return a time as CAP writes it: to the second, and UTC as -00:00."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S-00:00")


def _info(alert: ET.Element, message: Message, language: str, tag: str) -> None:
    content = message.content

    def said(text: Said) -> str:
        return str(getattr(text, language))

    ended = message.ending is not None
    info = ET.SubElement(alert, "info")
    _add(info, "language", tag)
    _add(info, "category", content.category)
    _add(info, "event", said(content.event))
    if ended:
        _add(info, "responseType", "AllClear")
    _add(info, "urgency", "Past" if ended else content.urgency)
    _add(info, "severity", _SEVERITIES[content.level])
    _add(info, "certainty", content.certainty)
    _add(info, "expires", time(content.expires_at))
    _add(info, "senderName", message.sender_name)
    _add(info, "headline", said(content.headline))
    _add(info, "description", said(message.ending) if message.ending is not None else said(content.description))
    if not ended:
        _add(info, "instruction", said(content.instruction))
    parameter = ET.SubElement(info, "parameter")
    _add(parameter, "valueName", "level")
    _add(parameter, "value", _COLOURS[content.level])
    for area in message.areas:
        _area(info, area)


def _area(info: ET.Element, area: Area) -> None:
    element = ET.SubElement(info, "area")
    _add(element, "areaDesc", " / ".join(area.names) or area.code)
    for polygon in polygons(area.boundary):
        _add(element, "polygon", polygon)
    geocode = ET.SubElement(element, "geocode")
    _add(geocode, "valueName", "zone")
    _add(geocode, "value", area.code)


def polygons(boundary: BaseGeometry | None) -> list[str]:
    """Return the outlines, the largest first, as "latitude,longitude" pairs that end where they begin.

    An outline is simplified until it has POLYGON_VERTICES_MAX vertices; its holes are filled.
    """
    if boundary is None or boundary.is_empty:
        return []
    parts = [part for part in shapely.get_parts(boundary).tolist() if isinstance(part, shapely.Polygon)]
    flat = sorted(parts, key=lambda part: -part.area)
    found = []
    for part in flat[:POLYGONS_MAX]:
        ring = part.exterior
        tolerance = _SIMPLIFY_FIRST_DEG
        pairs = shapely.get_coordinates(ring)
        while len(pairs) > POLYGON_VERTICES_MAX:
            pairs = shapely.get_coordinates(ring.simplify(tolerance))
            tolerance *= 2
        if len(pairs) >= _VERTICES_MIN:
            found.append(" ".join(f"{latitude:.6f},{longitude:.6f}" for longitude, latitude in pairs))
    return found


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = _printable(text)


def _printable(text: str) -> str:
    """Leave out what no XML 1.0 document can hold."""
    return "".join(sign for sign in text if sign in "\t\n\r" or (sign >= " " and sign not in "\ufffe\uffff"))
