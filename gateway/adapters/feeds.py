"""Warnings in force as other systems take them: an Atom feed, and the documents of the Common Alerting Protocol."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.adapters.sources import NodeFacts
    from gateway.adapters.texts import Texts
    from quintet.management.v1.channels_pb2 import CapMessage

ATOM = "application/atom+xml; charset=utf-8"
CAP = "application/cap+xml; charset=utf-8"
FEED_MAX_AGE_S = 30
# A message never changes; what ends it is another one.
CAP_MAX_AGE_S = 86_400
_ATOM_NAMESPACE = "http://www.w3.org/2005/Atom"
_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME = re.compile(r"zones/([^/]+)/publicWarnings/([^/]+)/capMessages/([^/]+)")


def is_zone(code: str) -> bool:
    return bool(_CODE.fullmatch(code))


def message_name(zone: str, warning: str, number: str) -> str:
    """Return the resource name of a message, as the path of its document spells it."""
    return f"zones/{zone}/publicWarnings/{warning}/capMessages/{number}"


def atom(node: NodeFacts, zone: str, messages: Sequence[CapMessage], texts: Texts, language: str) -> str:
    """Return the feed (RFC 4287): one entry per warning, its newest message, the newest first."""
    feed = ET.Element("feed", {"xmlns": _ATOM_NAMESPACE, "xml:lang": language})
    _add(feed, "id", f"urn:quintet:{node.id}:warnings:{zone}")
    _add(feed, "title", texts.say(language, "feed.title", node=node.name))
    # A feed must say when it changed; one that never held anything has not changed since the node started.
    newest = max((message.sent_at.ToDatetime(tzinfo=UTC) for message in messages), default=node.started)
    _add(feed, "updated", _time(newest))
    author = ET.SubElement(feed, "author")
    _add(author, "name", node.name)
    ET.SubElement(feed, "link", {"rel": "self", "href": f"/feeds/warnings.atom?zone={zone}"})
    for message in messages:
        _entry(feed, message, language)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(feed, encoding="unicode")


def _entry(feed: ET.Element, message: CapMessage, language: str) -> None:
    found = _NAME.fullmatch(message.name)
    if found is None:
        return
    zone, warning, number = found.groups()
    entry = ET.SubElement(feed, "entry")
    _add(entry, "id", f"urn:quintet:cap:{message.identifier}")
    _add(entry, "title", message.headline.zh if language.startswith("zh") else message.headline.en)
    _add(entry, "updated", _time(message.sent_at.ToDatetime(tzinfo=UTC)))
    href = f"/feeds/cap/{zone}/{warning}/{number}.xml"
    ET.SubElement(entry, "link", {"rel": "alternate", "type": "application/cap+xml", "href": href})


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = "".join(
        sign for sign in text if sign in "\t\n\r" or (sign >= " " and sign not in "\ufffe\uffff")
    )


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
