"""What federation is made of."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from libs.config import PARTS
from libs.host import Part, Wired
from quintet.audit.v1.audit_pb2_grpc import AuditServiceStub
from quintet.federation.v1 import federation_pb2, federation_pb2_grpc
from quintet.identity.v1.directory_pb2_grpc import DirectoryServiceStub
from quintet.management.v1.evidence_pb2_grpc import EvidenceServiceStub
from quintet.sharing.v1.sharing_pb2_grpc import SharingServiceStub
from services.federation import metrics, objectives, settlement_service
from services.federation.accept import Acceptor
from services.federation.contracts_service import ContractsHandler
from services.federation.cosign import Cosigning
from services.federation.deadlines import Deadlines
from services.federation.deletion_checks import DeletionChecks
from services.federation.deletions import Deletions
from services.federation.directives import Directives
from services.federation.directives import watch as watch_directives
from services.federation.directives_service import DirectivesHandler
from services.federation.directives_wanted import WantedDirectives
from services.federation.disclosures import Disclosures
from services.federation.disclosures_service import DisclosuresHandler
from services.federation.event_evidence import EventEvidence
from services.federation.evidence_service import EvidenceHandler
from services.federation.export import Exporter
from services.federation.hub import Hub
from services.federation.keeper import Keeper, Limits
from services.federation.link import LinkParts
from services.federation.links_service import LinksHandler
from services.federation.members import Basis, Members
from services.federation.negotiation import Negotiator
from services.federation.objectives import Objectives
from services.federation.peers_service import PeersHandler
from services.federation.pki import Authority
from services.federation.ports import Ports
from services.federation.queries import Questions
from services.federation.queries_service import QueriesHandler
from services.federation.service import FederationServicer
from services.federation.settlement import Settler
from services.federation.settlement_service import SettlementsHandler
from services.federation.signing import NodeSigner
from services.federation.transfers_service import TransfersHandler
from services.federation.trust import Trust
from services.federation.trust_service import TrustHandler
from services.federation.waiting import WaitDays

if TYPE_CHECKING:
    from libs.host import Host
    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from services.federation.control import ControlHandler
    from services.federation.link import FrameHandler

# Hides who disclosures are about; one per node.
DISCLOSURES_KEY = "federation-disclosures"
MIGRATIONS = Path(__file__).parent / "migrations"
SERVICE = federation_pb2.DESCRIPTOR.services_by_name["FederationService"]


async def build(host: Host) -> Wired:
    """Wire the service and the two ports for other nodes."""
    transactions, config = host.transactions, host.config
    sharing = SharingServiceStub(host.channel_to("sharing"))
    signer = NodeSigner(host.node, host.node_keys.present)
    keeper = Keeper(
        transactions,
        Limits.of(
            backlog_max_mb=config.federation.backlog_max_mb,
            retain_hours=config.federation.retain_hours,
            retain_mb=config.federation.retain_mb,
        ),
    )
    negotiator = Negotiator(host.node, host.zone, signer, host.zones.tree, _wait_days(host))
    disclosures = Disclosures(config.secrets.get(DISCLOSURES_KEY).encode())
    questions = Questions(host.node, transactions, sharing, disclosures)
    logs = {part: AuditServiceStub(host.channel_to(part)) for part in PARTS}
    cosigning = Cosigning(host.node, transactions, signer, logs)
    control: dict[str, ControlHandler] = {**negotiator.handlers, **cosigning.handlers()}
    acceptor = Acceptor(host.node, transactions, host.zones.tree, control)
    frames: dict[str, FrameHandler] = {}
    trust = Trust(host.node, _authority(host), signer, transactions)
    hub = Hub(LinkParts(host.node, transactions, signer, acceptor, questions, trust, frames), config.secrets)
    settler = Settler(host.node, hub.wake)
    control["settlement"] = settler.handle
    directives = Directives(host.node, host.zones.tree, hub.wake)
    control["directive_message"] = directives.handle
    wanted = WantedDirectives(host.node, directives)
    watched = Objectives(host.node, hub.wake)
    control["flow"] = watched.handle
    checks = DeletionChecks(host.node)
    deletions = Deletions(host.node, transactions, signer, checks, hub.wake)
    control["deletion_proof"] = deletions.handle
    members = Members(_basis(host, signer, trust, negotiator, hub))
    control.update(members.control)
    frames.update(members.frames)
    peers = PeersHandler(transactions, members.membership, members.joiner, members.standing, hub, questions)
    directory = DirectoryServiceStub(host.channel_to("identity"))
    contracts = ContractsHandler(host.node, transactions, negotiator, hub, sharing, directory)
    transfers = TransfersHandler(transactions, negotiator.transfers, hub)
    queries = QueriesHandler(host.node, transactions, hub, questions)
    management = EvidenceServiceStub(host.channel_to("management"))
    event_evidence = EventEvidence(transactions, host.zones.tree, management, hub, questions)
    questions.answer_evidence_by(event_evidence.give)
    servicer = FederationServicer(
        peers,
        contracts,
        queries,
        SettlementsHandler(transactions, settler),
        DirectivesHandler(host.node, transactions, directives, host.zones.tree),
        transfers,
        LinksHandler(transactions, acceptor, hub),
        DisclosuresHandler(transactions, disclosures),
        deletions,
        EvidenceHandler(transactions, trust, cosigning),
        TrustHandler(transactions, trust, members.rotation, members.guard),
        event_evidence,
    )
    exporter = Exporter(host.node, host.zones.tree, hub.wake, negotiator.switches, disclosures, keeper.bulk_admits)

    async def hear(tx: Tx, facts: list[Fact]) -> None:
        await exporter.handle(tx, facts)
        await deletions.hear(tx, facts)
        await wanted.hear(tx, facts)

    return Wired(
        servicers=[(federation_pb2_grpc.add_FederationServiceServicer_to_server, servicer, SERVICE)],
        handle_all=hear,
        admits=keeper.admits,
        tasks={
            "ports": partial(_serve_ports, host, members),
            "links": hub.run,
            "backlog": keeper.run,
            "settlement": partial(settlement_service.run, transactions, settler, checks),
            **members.tasks,
            "cosign": cosigning.run,
            "directives": partial(watch_directives, transactions, directives),
            "deadlines": Deadlines(host.node, host.zone, transactions, negotiator, hub.wake).run,
            "objectives": partial(objectives.watch, transactions, watched),
            "metrics": partial(metrics.watch, transactions, hub),
        },
    )


def _authority(host: Host) -> Authority:
    leaf_valid = timedelta(hours=host.config.federation.certificate_hours)
    return Authority.open(host.node, host.config.secrets, host.clock.now(), leaf_valid)


def _wait_days(host: Host) -> WaitDays:
    section = host.config.federation
    return WaitDays(
        negotiation=section.negotiation_days,
        switch=section.amendment_days,
        transfer_request=section.transfer_request_days,
        transfer_suspension=section.transfer_suspension_days,
    )


def _basis(host: Host, signer: NodeSigner, trust: Trust, negotiator: Negotiator, hub: Hub) -> Basis:
    section = host.config.federation
    return Basis(
        node=host.node,
        title=host.config.node.name,
        zone=host.zone,
        transactions=host.transactions,
        secrets=host.config.secrets,
        keys=host.node_keys,
        signer=signer,
        trust=trust,
        negotiator=negotiator,
        zones=host.zones.tree,
        hub=hub,
        grace=timedelta(hours=section.grace_hours if section.expired_policy == "grace" else 0),
    )


async def _serve_ports(host: Host, members: Members) -> None:
    """A server serves once: a restart of this task makes new ones."""
    join, link = members.servers()
    own = members.server_certificate([host.config.federation.advertise])
    await Ports(host.config, own, members.membership, join=join, link=link).run()


PART = Part("federation", MIGRATIONS, build)
