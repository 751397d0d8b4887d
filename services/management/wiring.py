"""What management is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from libs.host import Part, Wired
from libs.inbox import in_turn
from quintet.management.v1 import imports_pb2, management_pb2
from quintet.management.v1.imports_pb2_grpc import add_ImportServiceServicer_to_server
from quintet.management.v1.management_pb2_grpc import add_ManagementServiceServicer_to_server
from services.management.analysis.wiring import analysis
from services.management.cases.wiring import with_cases
from services.management.catalogue import wiring as catalogue
from services.management.catalogue.book import open_book
from services.management.counting import CounterFolder
from services.management.deadlines import wiring as deadlines
from services.management.deadlines.book import Book
from services.management.deadlines.clockwork import ClockTask
from services.management.deadlines.facts import LedgerHandlers
from services.management.deadlines.ledger import Ledger
from services.management.evidence.wiring import with_evidence
from services.management.facts import FactHandlers, handlers
from services.management.facts_mirrored import MirrorHandlers
from services.management.followup.wiring import with_follow_ups
from services.management.handover.wiring import handovers
from services.management.importing.service import ImportServicer
from services.management.intake import Intake
from services.management.merging import wiring as merging
from services.management.performance.wiring import with_performance
from services.management.plans.wiring import with_plans
from services.management.reports import wiring as reports
from services.management.routing import wiring as routing
from services.management.service import ManagementServicer
from services.management.tiers.wiring import tiers
from services.management.warnings.wiring import with_warnings
from services.management.whistles.wiring import whistles
from services.management.worklists import wiring as worklists
from services.management.worklists.feed import Feed
from services.management.worklists.service_base import Means

if TYPE_CHECKING:
    from libs.host import Host

FOLDER = Path(__file__).parent
MIGRATIONS = FOLDER / "migrations"
LOOPS = FOLDER / "loops"
IMPORTS = imports_pb2.DESCRIPTOR.services_by_name["ImportService"]
SERVICE = management_pb2.DESCRIPTOR.services_by_name["ManagementService"]


async def build(host: Host) -> Wired:
    """Wire the service. Raises LoopError, a ValueError, when a loop file breaks a rule."""
    loops = await open_book(host.transactions, LOOPS)
    book = Book()
    intake = Intake(host.node, loops, host.zones.tree, book)
    servicer = ManagementServicer(host.transactions, loops, host.zones.tree, intake, book)
    importing = ImportServicer(host.transactions, loops, host.zones.tree, intake, book)
    feed = Feed(host.transactions)
    means = Means(host.transactions, loops, host.zones.tree, intake, book)
    own = FactHandlers(host.node, host.zones.tree, intake)
    ledger = Ledger(loops, book)
    clocks = ClockTask(host.transactions, book, ledger)
    mirrored = MirrorHandlers(host.node)
    looking = analysis(host)
    handing = handovers(host, means, mirrored)
    calling = whistles(host, means)
    moving = tiers(host, means, mirrored, ledger)
    wired = Wired(
        servicers=[
            (add_ManagementServiceServicer_to_server, servicer, SERVICE),
            *catalogue.servicers(host, loops),
            *deadlines.servicers(host, loops, intake, book),
            *merging.servicers(host, loops, intake, book),
            *worklists.servicers(host, means, servicer, feed),
            (add_ImportServiceServicer_to_server, importing, IMPORTS),
            *looking.servicers,
            *handing.servicers,
            *calling.servicers,
            *moving.servicers,
            *routing.servicers(means),
            *reports.servicers(host, lambda: loops.versions),
        ],
        handlers=in_turn(
            handlers(own, mirrored, LedgerHandlers(host.node, mirrored, ledger)),
            worklists.handlers(host),
            handing.handlers,
            calling.handlers,
            moving.handlers,
            reports.handlers(host),
        ),
        tasks={
            "counters": CounterFolder(host.transactions).run,
            "clocks": clocks.run,
            "emerging": looking.emerging.run,
            **catalogue.tasks(host, loops),
            **worklists.tasks(host, feed),
            **handing.tasks,
            **calling.tasks,
        },
    )
    wired = with_performance(wired, host, lambda: loops.versions, mirrored)
    wired = with_cases(with_follow_ups(wired, host, ledger), host)
    # The centre comes last: its indicators read what all the others hear.
    return with_warnings(with_plans(with_evidence(wired, host), host), host)


PART = Part("management", MIGRATIONS, build)
