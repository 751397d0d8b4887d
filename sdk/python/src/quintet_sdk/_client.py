import uuid
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import grpc
import grpc.aio

from quintet.collaboration.v1.collaboration_pb2_grpc import CollaborationServiceStub
from quintet.collaboration.v1.notices_pb2_grpc import NoticeServiceStub
from quintet.delivery.v1.delivery_pb2_grpc import RequestServiceStub, ServiceItemServiceStub
from quintet.federation.v1.federation_pb2_grpc import FederationServiceStub
from quintet.identity.v1.directory_pb2_grpc import DirectoryServiceStub
from quintet.identity.v1.identity_pb2_grpc import IdentityServiceStub
from quintet.management.v1.analysis_pb2_grpc import AnalysisServiceStub
from quintet.management.v1.calendars_pb2_grpc import CalendarServiceStub
from quintet.management.v1.cases_pb2_grpc import CaseServiceStub
from quintet.management.v1.catalogue_pb2_grpc import ComponentTypeServiceStub
from quintet.management.v1.channels_pb2_grpc import WarningChannelServiceStub
from quintet.management.v1.deadlines_pb2_grpc import DeadlineServiceStub
from quintet.management.v1.evidence_pb2_grpc import EvidenceServiceStub
from quintet.management.v1.exceptions_pb2_grpc import ExceptionServiceStub
from quintet.management.v1.follow_ups_pb2_grpc import FollowUpServiceStub
from quintet.management.v1.handovers_pb2_grpc import HandoverServiceStub
from quintet.management.v1.imports_pb2_grpc import ImportServiceStub
from quintet.management.v1.indicators_pb2_grpc import IndicatorServiceStub
from quintet.management.v1.loops_pb2_grpc import LoopServiceStub
from quintet.management.v1.management_pb2_grpc import ManagementServiceStub
from quintet.management.v1.merging_pb2_grpc import MergeServiceStub
from quintet.management.v1.plans_pb2_grpc import PlanServiceStub
from quintet.management.v1.reports_pb2_grpc import ReportServiceStub
from quintet.management.v1.routing_pb2_grpc import RoutingServiceStub
from quintet.management.v1.scorecards_pb2_grpc import ScorecardServiceStub
from quintet.management.v1.tiers_pb2_grpc import TierServiceStub
from quintet.management.v1.visits_pb2_grpc import VisitServiceStub
from quintet.management.v1.warnings_pb2_grpc import WarningCentreServiceStub
from quintet.management.v1.whistles_pb2_grpc import WhistleServiceStub
from quintet.management.v1.worklists_pb2_grpc import WorkListServiceStub
from quintet.perception.v1.perception_pb2_grpc import PerceptionServiceStub
from quintet.sharing.v1.sharing_pb2_grpc import SharingServiceStub
from quintet_sdk._interceptors import StreamCalls, UnaryCalls
from quintet_sdk._session import Session

DEADLINE_S = 30.0


def new_request_id() -> str:
    """An id that makes one change idempotent: keep it, and send the call again with it when no answer came."""
    return str(uuid.uuid4())


class Client:
    """All services of one node, through its gateway: one attribute per service.

    `address` is a URL ("http://127.0.0.1:8080", "https://node.example") or `host:port`. `tls` are the credentials of an
    encrypted channel; without them https uses the system's roots, and everything else is sent in the clear.
    `deadline_s` caps each call that states no `timeout` of its own, in seconds. Failed calls raise QuintetError.
    """

    def __init__(
        self, address: str, tls: grpc.ChannelCredentials | None = None, *, deadline_s: float = DEADLINE_S
    ) -> None:
        target, encrypted = _target(address)
        interceptors = [UnaryCalls(lambda: self._session, deadline_s), StreamCalls(lambda: self._session)]
        if tls is None and encrypted:
            tls = grpc.ssl_channel_credentials()
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, interceptors=interceptors)
        else:
            self._channel = grpc.aio.secure_channel(target, tls, interceptors=interceptors)
        self.identity = IdentityServiceStub(self._channel)
        self.directory = DirectoryServiceStub(self._channel)
        self.perception = PerceptionServiceStub(self._channel)
        self.sharing = SharingServiceStub(self._channel)
        self.management = ManagementServiceStub(self._channel)
        self.component_types = ComponentTypeServiceStub(self._channel)
        self.loops = LoopServiceStub(self._channel)
        self.deadlines = DeadlineServiceStub(self._channel)
        self.evidence = EvidenceServiceStub(self._channel)
        self.exceptions = ExceptionServiceStub(self._channel)
        self.merging = MergeServiceStub(self._channel)
        self.imports = ImportServiceStub(self._channel)
        self.analysis = AnalysisServiceStub(self._channel)
        self.reports = ReportServiceStub(self._channel)
        self.scorecards = ScorecardServiceStub(self._channel)
        self.follow_ups = FollowUpServiceStub(self._channel)
        self.cases = CaseServiceStub(self._channel)
        self.calendars = CalendarServiceStub(self._channel)
        self.work_lists = WorkListServiceStub(self._channel)
        self.indicators = IndicatorServiceStub(self._channel)
        self.warning_centre = WarningCentreServiceStub(self._channel)
        self.visits = VisitServiceStub(self._channel)
        self.warning_channels = WarningChannelServiceStub(self._channel)
        self.plans = PlanServiceStub(self._channel)
        self.handovers = HandoverServiceStub(self._channel)
        self.tiers = TierServiceStub(self._channel)
        self.routing = RoutingServiceStub(self._channel)
        self.whistles = WhistleServiceStub(self._channel)
        self.collaboration = CollaborationServiceStub(self._channel)
        self.notices = NoticeServiceStub(self._channel)
        self.requests = RequestServiceStub(self._channel)
        self.service_items = ServiceItemServiceStub(self._channel)
        self.federation = FederationServiceStub(self._channel)
        self._session = Session(self.identity)

    async def sign_in(self, login: str, password: str) -> str:
        """Opens a session that renews itself; returns the caller's resource name, for example "people/resident.01"."""
        return await self._session.sign_in(login, password)

    async def sign_out(self) -> None:
        """Ends the session at the node; does nothing when there is none."""
        await self._session.sign_out()

    async def close(self) -> None:
        """Closes the connection; the session stays open at the node until it ends or is signed out."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _target(address: str) -> tuple[str, bool]:
    if "://" not in address:
        return address, False
    url = urlsplit(address)
    encrypted = url.scheme == "https"
    if url.hostname is None or url.scheme not in {"http", "https"}:
        raise ValueError(f"{address} is neither host:port nor an http or https URL")
    return f"{url.hostname}:{url.port or (443 if encrypted else 80)}", encrypted
