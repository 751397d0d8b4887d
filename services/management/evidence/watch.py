"""Looks after the store of evidence, so that people hear that it is away before somebody on the street does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from prometheus_client import Gauge

from libs.turns import every
from services.management.evidence.objects import StoreAway, Trouble

if TYPE_CHECKING:
    from services.management.evidence.objects import Objects

CHECK_INTERVAL_S = 20.0
# The same for all replicas, and read only once it is there: a bucket that keeps all versions gets no more of them.
_PROBE, _ABSENT, _CONTENT = "00/quintet", "00/absent", b"Quintet keeps evidence here.\n"

STORE = Gauge("quintet_evidence_store", "1 for how the store of evidence is now, else 0.", ["kind", "state"])
_WELL = "ok"

log = structlog.get_logger()


class StoreWatch:
    """Background work of every replica: each may have a way of its own to the store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._said = ""
        self._proven = False

    async def run(self) -> None:
        """Check at once, and every CHECK_INTERVAL_S until cancelled."""
        await every(CHECK_INTERVAL_S, self.check, failed="evidence.check_failed")

    async def check(self) -> Trouble | None:
        """Return what is wrong, None when nothing is; tell metrics always, and the log when it has changed.

        The first time, and after trouble, everything is tried that uploads need; then, that something can be read.
        """
        try:
            await self._try()
        except StoreAway as away:
            self._proven = False
            self._tell(away.trouble, away.why)
            return away.trouble
        self._proven = True
        self._tell(None, "")
        return None

    async def _try(self) -> None:
        if self._proven and await self._objects.get(_PROBE) == _CONTENT:
            return
        await self._objects.put(_PROBE, _CONTENT)
        if await self._objects.get(_PROBE) != _CONTENT:
            raise StoreAway(Trouble.FAULTY, "the store does not give back what it was given")
        await self._objects.delete(_ABSENT)

    def _tell(self, trouble: Trouble | None, why: str) -> None:
        state = trouble.value if trouble else _WELL
        for each in (_WELL, *(trouble.value for trouble in Trouble)):
            STORE.labels(self._objects.kind, each).set(each == state)
        if state == self._said:
            return
        if trouble:
            log.error("evidence.store_trouble", kind=self._objects.kind, trouble=state, why=why)
        else:
            log.info("evidence.store_well", kind=self._objects.kind)
        self._said = state
