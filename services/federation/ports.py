"""Keeps the two ports open that other nodes reach, on the same numbers after every restart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from libs.state import RuntimeInfo, change_runtime

if TYPE_CHECKING:
    import grpc

    from libs.config import NodeConfig
    from libs.rpc import Server
    from services.federation.membership import Membership
    from services.federation.server_certificate import ServerCertificate

log = structlog.get_logger()


class Ports:
    """The join port and the link port of a node."""

    def __init__(
        self,
        config: NodeConfig,
        own: ServerCertificate,
        membership: Membership,
        *,
        join: Server,
        link: Server,
    ) -> None:
        self._config = config
        self._own = own
        self._membership = membership
        self._join = join
        self._link = link

    async def run(self) -> None:
        """Serve until cancelled."""
        section = self._config.federation
        before = self._config.runtime()
        try:
            link_port = await self._listen(
                self._link, section.link_port, before.link, self._own.credentials(mutual=True)
            )
            join_port = await self._listen(self._join, section.join_port, before.join, self._own.credentials())
            link, join = f"{section.advertise}:{link_port}", f"{section.advertise}:{join_port}"
            self._membership.link_address = section.advertise_link or link
            self._membership.join_address = join

            def change(found: RuntimeInfo) -> RuntimeInfo:
                return replace(found, link=link, join=join)

            await change_runtime(self._config.state, change)
            log.info("link.listening", link=link, join=join)
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(self._join.stop(), self._link.stop())

    async def _listen(self, server: Server, fixed: int, before: str, trust: grpc.ServerCredentials) -> int:
        """Peers know the address: without a fixed port, the port of the last run is tried first."""
        host = self._config.federation.host
        if not fixed and before:
            try:
                return await server.start(f"{host}:{before.rpartition(':')[2]}", trust)
            except RuntimeError:
                log.warning("link.address_taken", address=before)
        return await server.start(f"{host}:{fixed}", trust)
