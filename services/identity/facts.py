"""The facts of others that identity takes in: federation says which child node is authoritative for a zone."""

from collections.abc import Mapping
from dataclasses import replace

from google.protobuf.message import Message

from libs.inbox import Handler
from libs.tx import Tx
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1.facts_pb2 import ZoneDelegated, ZoneWithdrawn
from services.identity import store_zones
from services.identity.model import ZONES
from services.identity.service_zones import publish_zone


def handlers() -> Mapping[type[Message], Handler]:
    return {ZoneDelegated: _delegated, ZoneWithdrawn: _withdrawn}


async def _delegated(tx: Tx, fact: Fact, message: Message) -> None:
    if isinstance(message, ZoneDelegated):
        await _delegate(tx, fact, message.zone, before=None, after=message.node)


async def _withdrawn(tx: Tx, fact: Fact, message: Message) -> None:
    # One that comes late must not take the zone from the node that has it since.
    if isinstance(message, ZoneWithdrawn):
        await _delegate(tx, fact, message.zone, before=message.node, after="")


async def _delegate(tx: Tx, fact: Fact, code: str, *, before: str | None, after: str) -> None:
    """Make `after` the zone's authority; with `before` only if that is it now."""
    if fact.received_from:
        return  # how another node delegates its own zones is that node's business
    await store_zones.lock_zones(tx.conn)
    zone = await store_zones.find_zone(tx.conn, code)
    code = zone.code if zone is not None else code
    now = await store_zones.get_delegation(tx.conn, code)
    if now == after or (before is not None and now != before):
        return
    await store_zones.save_delegation(tx.conn, code, after)
    if zone is not None:  # else the one who puts it later will find the delegation
        publish_zone(tx, replace(zone, delegated_to=after))
    tx.audit("identity.zones.delegate" if after else "identity.zones.withdraw", f"{ZONES}{code}", node=after or now)
