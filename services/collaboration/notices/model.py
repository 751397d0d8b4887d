"""Notices: what they say, and whom they are for. Pure rules, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from libs.zones import ZoneTree

# Told of what nobody is there for, so that it is seen all the same.
ROLE_OF_LAST_RESORT = "node_admin"


class NoticeKind(StrEnum):
    """Names as in the proto."""

    REMINDER = "reminder"
    ESCALATION = "escalation"
    HANDOVER = "handover"
    WHISTLE = "whistle"


class Holding(NamedTuple):
    """Where somebody holds a role. An empty zone stands for all of the node's."""

    role: str
    organisation: str
    zone: str


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that a role is told of; `organisation` is empty for whoever holds the role in the zone.

    `subject` is the event, hand-over or whistle that it is about.
    """

    id: str
    kind: NoticeKind
    title: str
    text_zh: str
    text_en: str
    subject: str
    due_at: datetime | None
    role: str
    organisation: str
    zone: str
    node: str
    urgent: bool
    created_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""

    @property
    def name(self) -> str:
        return f"notices/{self.id}"


def organisation_for(holdings: Iterable[Holding], tree: ZoneTree, organisation: str, zone: str) -> str | None:
    """Return the organisation in which a notice finds somebody: the one meant, or "" for the zone; None for nowhere."""
    there = {holding.organisation for holding in holdings if tree.covers(holding.zone, zone)}
    if organisation and organisation in there:
        return organisation
    return "" if there else None


def reached(holdings: Iterable[Holding], tree: ZoneTree) -> list[Holding]:
    """Return, one by one, the zones in which somebody's roles are held; the node's own zone as the empty one."""
    found: dict[Holding, None] = {}
    for holding in holdings:
        zones = ("",) if holding.zone == tree.root else tree.codes(holding.zone)
        found.update(dict.fromkeys(holding._replace(zone=zone) for zone in zones))
    return list(found)
