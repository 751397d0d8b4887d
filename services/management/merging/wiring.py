"""What merging and splitting by hand are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import merging_pb2
from quintet.management.v1.merging_pb2_grpc import add_MergeServiceServicer_to_server
from services.management.merging.service import MergeServicer

if TYPE_CHECKING:
    from libs.host import Host, Servicer
    from services.management.catalogue.book import LoopBook
    from services.management.deadlines.book import Book
    from services.management.intake import Intake

MERGING = merging_pb2.DESCRIPTOR.services_by_name["MergeService"]


def servicers(host: Host, loops: LoopBook, intake: Intake, book: Book) -> list[Servicer]:
    servicer = MergeServicer(host.transactions, loops, host.zones.tree, intake, book)
    return [(add_MergeServiceServicer_to_server, servicer, MERGING)]
