"""The facts about whistles, each with its audit entry, in the transaction of the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import facts_pb2
from services.management.convert import time_pb
from services.management.whistles.convert_whistles import arrival_pb, summons_pb, whistle_pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.tx import Tx
    from services.management.whistles.model import Arrival, Whistle


def changed(tx: Tx, whistle: Whistle, action: str, organisation: str = "") -> None:
    """State a whistle of this node as it is now."""
    tx.publish(facts_pb2.WhistleChanged(whistle=whistle_pb(whistle, tx.now)), zone=whistle.zone, key=whistle.name)
    tx.audit(f"management.whistles.{action}", whistle.name, version=whistle.version, organisation=organisation)


def reported_in(tx: Tx, whistle: Whistle, arrival: Arrival) -> None:
    """Tell the node that keeps a whistle that an organisation of this one is there."""
    tx.publish(arrival_pb(whistle, arrival), zone=whistle.zone, key=whistle.name)
    tx.audit("management.whistles.report_in", whistle.name, organisation=arrival.organisation)


def unanswered(tx: Tx, whistle: Whistle, organisations: Sequence[str], role: str) -> None:
    """Tell those who are not there, or their leaders."""
    message = facts_pb2.WhistleUnanswered(
        whistle=whistle.name,
        organisations=organisations,
        report_by=time_pb(whistle.report_by),
        role=role,
        zone=whistle.zone,
        node=whistle.node,
    )
    tx.publish(message, zone=whistle.zone, key=whistle.name)


def rated(tx: Tx, whistle: Whistle, organisation: str) -> None:
    summons = next(each for each in whistle.summons if each.organisation == organisation)
    message = facts_pb2.WhistleRated(
        whistle=whistle.name,
        summons=summons_pb(summons, whistle, tx.now),
        event=whistle.event,
        zone=whistle.zone,
        node=whistle.node,
    )
    tx.publish(message, zone=whistle.zone, key=whistle.name)
