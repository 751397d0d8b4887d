"""What the files of the service share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libs.errors import Invalid, NotFound, Reason
from services.collaboration import directory_store, store
from services.collaboration.model import own_organisations, require_part
from services.collaboration.store import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libs.access import Caller
    from libs.db import Connection
    from libs.tx import Transactions
    from libs.zones import ZoneTree
    from services.collaboration.model import Channel

READ_CHANNELS = "collaboration.channels.read"

PAGE_SIZE_DEFAULT = 50
LONG_PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 500

Context = Any


class Methods:
    """What every method needs: the store's transactions, the present zones, the node's own id and zone."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], *, node: str, zone: str) -> None:
        self._transactions = transactions
        self._zones = zones
        self._node = node
        self._zone = zone


def scope(caller: Caller, permission: str) -> Scope:
    """Return what of a list the caller may see."""
    return Scope(caller.visibility(permission), own_organisations(caller, permission))


async def channel_for(conn: Connection, caller: Caller, permission: str, name: str) -> Channel:
    """Return a channel that the caller takes part in. Raises NotFound and Forbidden."""
    channel = await store.get_channel(conn, name.removeprefix("channels/"))
    if channel is None:
        raise NotFound(Reason.CHANNEL_NOT_FOUND, f"{name} does not exist", name=name)
    require_part(caller, permission, zone=channel.zone, event=channel.event, organisations=channel.organisations)
    return channel


async def check_known(conn: Connection, fields: Sequence[tuple[str, str]]) -> None:
    """Raise Invalid for every (field, organisation) that is not in the directory."""
    unknown = await directory_store.unknown(conn, [organisation for _, organisation in fields])
    faults = [(field, "is not in the directory") for field, organisation in fields if organisation in unknown]
    if faults:
        raise Invalid.many(faults)
