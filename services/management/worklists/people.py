"""What somebody else than the caller may do, as identity knows it now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.remote_grants import grants_of
from quintet.identity.v1 import identity_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.access import Grants
    from libs.zones import ZoneTree
    from quintet.identity.v1.identity_pb2_grpc import IdentityServiceStub


class People:
    """Asks identity each time: work must not be given to somebody who has just left."""

    def __init__(self, stub: IdentityServiceStub, zones: Callable[[], ZoneTree]) -> None:
        self._stub = stub
        self._zones = zones

    async def grants(self, person: str) -> Grants:
        """Return what a person may do; inactive grants for one who is unknown or disabled. Raises Away."""
        response = await self._stub.ResolveAccess(identity_pb2.ResolveAccessRequest(subject=person))
        return grants_of(person, response, self._zones)
