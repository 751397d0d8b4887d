"""How sharing is put together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from libs.host import Part, Wired
from quintet.sharing.v1 import sharing_pb2
from quintet.sharing.v1.sharing_pb2_grpc import add_SharingServiceServicer_to_server
from services.sharing.facts import Facts
from services.sharing.publisher import RowPublisher
from services.sharing.retention import Retention
from services.sharing.service import SharingServicer

if TYPE_CHECKING:
    from libs.host import Host

# Hides personal values from those who may not see them; one per node, so that equal values stay equal.
SALT = "sharing-masking"


async def build(host: Host) -> Wired:
    salt = host.config.secrets.get(SALT).encode()
    servicer = SharingServicer(host.transactions, host.zones.tree, node=host.node, salt=salt)
    service = sharing_pb2.DESCRIPTOR.services_by_name["SharingService"]
    return Wired(
        servicers=[(add_SharingServiceServicer_to_server, servicer, service)],
        handlers=Facts(host.node, host.zones.tree).handlers(),
        tasks={
            "rows": RowPublisher(host.transactions, host.zones.tree).run,
            "retention": Retention(host.transactions, host.zone).run,
        },
    )


PART = Part("sharing", Path(__file__).parent / "migrations", build)
