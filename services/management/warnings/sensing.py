"""The sensors' own warnings, for the centre's list: those of this node and those that reach its bus from others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.convert import time_of, zone_of
from services.management.model import WARNING_NAME
from services.management.warnings import store_warnings
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.perception.v1.facts_pb2 import WarningEnded, WarningRaised
    from quintet.perception.v1.perception_pb2 import Warning as SensorWarning


class SensorWarnings:
    """Notes what perception raises and ends."""

    def __init__(self, zones: Callable[[], ZoneTree]) -> None:
        self._zones = zones

    async def raised(self, tx: Tx, _fact: Fact, message: WarningRaised) -> None:
        await self._note(tx, message.warning)

    async def ended(self, tx: Tx, _fact: Fact, message: WarningEnded) -> None:
        await self._note(tx, message.warning)

    async def _note(self, tx: Tx, warning: SensorWarning) -> None:
        zone = self._zones().canonical(zone_of(warning.name, WARNING_NAME, field="name"))
        text = Said(warning.reason.text.zh, warning.reason.text.en)
        raised_at = time_of(warning, "raised_at") or tx.now
        ended_at = time_of(warning, "ended_at")
        await store_warnings.raise_sensor(tx.conn, warning.name, zone, int(warning.level), text, raised_at, ended_at)
