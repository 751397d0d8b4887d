"""The zones of the node as identity lists them: kept in memory, the last good tree while identity is away."""

import asyncio
import hashlib
from collections.abc import Sequence

import structlog

from libs.backoff import Backoff
from libs.errors import DomainError, Exhausted, Invalid, Reason
from libs.zones import ZoneRecord, ZoneTree, parse_boundary
from quintet.identity.v1 import directory_pb2
from quintet.identity.v1.directory_pb2 import Zone, ZoneKind
from quintet.identity.v1.directory_pb2_grpc import DirectoryServiceStub

REFRESH_S = 60.0
RETRY_DELAY_FIRST_S = 0.2
RETRY_DELAY_MAX_S = 10.0
PAGE_SIZE = 1000
PAGES_MAX = 5_000

log = structlog.get_logger()


class ZoneDirectory:
    """Keeps a ZoneTree up to date while `run` runs. Until the first answer the tree holds the node's own zone only."""

    def __init__(self, stub: DirectoryServiceStub, root: str) -> None:
        """`root` is the code of the node's own zone."""
        self.loaded = asyncio.Event()
        self._stub = stub
        self._tree = ZoneTree(root=root)
        self._digest = b""
        self._wanted = asyncio.Event()

    def tree(self) -> ZoneTree:
        """Return the zones as last known. Do not keep it: ask again for each use."""
        return self._tree

    def changed(self) -> None:
        """Refresh soon: a zone was added or altered."""
        self._wanted.set()

    async def run(self) -> None:
        """Refresh every REFRESH_S and on `changed`, until cancelled."""
        backoff = Backoff(RETRY_DELAY_FIRST_S, RETRY_DELAY_MAX_S)
        while True:
            self._wanted.clear()
            try:
                await self.refresh()
            except (DomainError, ValueError) as error:
                log.warning("zones.refresh_failed", error=str(error), loaded=self.loaded.is_set())
                await backoff.wait()
                continue
            backoff.reset()
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Read all zones now. Raises what the channel raises, and ValueError when they make no tree."""
        zones = await self._list()
        digest = hashlib.sha256(b"".join(zone.SerializeToString(deterministic=True) for zone in zones)).digest()
        if digest != self._digest:
            # Boundaries have thousands of vertices: in a thread, not while calls wait.
            self._tree = await asyncio.to_thread(_tree, zones, self._tree.root)
            self._digest = digest
            log.info("zones.loaded", zones=len(self._tree))
        self.loaded.set()

    async def _list(self) -> list[Zone]:
        zones: list[Zone] = []
        token = ""
        for _ in range(PAGES_MAX):
            request = directory_pb2.ListZonesRequest(page_size=PAGE_SIZE, page_token=token)
            response = await self._stub.ListZones(request)
            zones += response.zones
            token = response.next_page_token
            if not token:
                return zones
        raise Exhausted(Reason.QUOTA, f"identity lists more than {PAGES_MAX} pages of zones")


def zone_record(zone: Zone) -> ZoneRecord:
    """Return a zone as the tree takes it. A boundary that does not parse counts as not known."""
    try:
        boundary = parse_boundary(zone.boundary)
    except Invalid as error:
        log.warning("zones.boundary_invalid", zone=zone.name, error=error.message)
        boundary = None
    return ZoneRecord(
        code=zone.name.removeprefix("zones/"),
        parent=zone.parent.removeprefix("zones/"),
        kind=ZoneKind.Name(zone.kind).removeprefix("ZONE_KIND_").lower(),
        names=tuple(name for name in (zone.title.zh, zone.title.en) if name),
        aliases=tuple(zone.aliases),
        boundary=boundary,
        delegated_to=zone.delegated_to,
    )


def _tree(zones: Sequence[Zone], root: str) -> ZoneTree:
    return ZoneTree([zone_record(zone) for zone in zones], root=root)
