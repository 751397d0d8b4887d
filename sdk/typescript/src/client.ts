import { createClient, type Client } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { CollaborationService } from "./gen/quintet/collaboration/v1/collaboration_pb.js";
import { NoticeService } from "./gen/quintet/collaboration/v1/notices_pb.js";
import { RequestService, ServiceItemService } from "./gen/quintet/delivery/v1/delivery_pb.js";
import { FederationService } from "./gen/quintet/federation/v1/federation_pb.js";
import { DirectoryService } from "./gen/quintet/identity/v1/directory_pb.js";
import { IdentityService } from "./gen/quintet/identity/v1/identity_pb.js";
import { AnalysisService } from "./gen/quintet/management/v1/analysis_pb.js";
import { CalendarService } from "./gen/quintet/management/v1/calendars_pb.js";
import { ComponentTypeService } from "./gen/quintet/management/v1/catalogue_pb.js";
import { CaseService } from "./gen/quintet/management/v1/cases_pb.js";
import { DeadlineService } from "./gen/quintet/management/v1/deadlines_pb.js";
import { EvidenceService } from "./gen/quintet/management/v1/evidence_pb.js";
import { ExceptionService } from "./gen/quintet/management/v1/exceptions_pb.js";
import { HandoverService } from "./gen/quintet/management/v1/handovers_pb.js";
import { FollowUpService } from "./gen/quintet/management/v1/follow_ups_pb.js";
import { ImportService } from "./gen/quintet/management/v1/imports_pb.js";
import { IndicatorService } from "./gen/quintet/management/v1/indicators_pb.js";
import { LoopService } from "./gen/quintet/management/v1/loops_pb.js";
import { ManagementService } from "./gen/quintet/management/v1/management_pb.js";
import { MergeService } from "./gen/quintet/management/v1/merging_pb.js";
import { PlanService } from "./gen/quintet/management/v1/plans_pb.js";
import { RoutingService } from "./gen/quintet/management/v1/routing_pb.js";
import { TierService } from "./gen/quintet/management/v1/tiers_pb.js";
import { VisitService } from "./gen/quintet/management/v1/visits_pb.js";
import { WarningCentreService } from "./gen/quintet/management/v1/warnings_pb.js";
import { WarningChannelService } from "./gen/quintet/management/v1/channels_pb.js";
import { WhistleService } from "./gen/quintet/management/v1/whistles_pb.js";
import { ReportService } from "./gen/quintet/management/v1/reports_pb.js";
import { ScorecardService } from "./gen/quintet/management/v1/scorecards_pb.js";
import { WorkListService } from "./gen/quintet/management/v1/worklists_pb.js";
import { PerceptionService } from "./gen/quintet/perception/v1/perception_pb.js";
import { SharingService } from "./gen/quintet/sharing/v1/sharing_pb.js";
import { Session } from "./session.js";

const DEADLINE_MS = 30_000;

export interface Options {
  /** The gateway of a node, for example "http://127.0.0.1:8080". */
  readonly baseUrl: string;
  /** An access token from elsewhere (single sign-on). It is not renewed; `signIn` replaces it. */
  readonly token?: string;
  /** Caps each call that states no `timeoutMs` of its own; 30 seconds when not given. */
  readonly deadlineMs?: number;
}

/** All services of one node: one client per service. Failed calls reject with an error that `refusalOf` reads. */
export interface Quintet {
  readonly identity: Client<typeof IdentityService>;
  readonly directory: Client<typeof DirectoryService>;
  readonly perception: Client<typeof PerceptionService>;
  readonly sharing: Client<typeof SharingService>;
  readonly management: Client<typeof ManagementService>;
  readonly analysis: Client<typeof AnalysisService>;
  readonly evidence: Client<typeof EvidenceService>;
  readonly componentTypes: Client<typeof ComponentTypeService>;
  readonly loops: Client<typeof LoopService>;
  readonly reports: Client<typeof ReportService>;
  readonly scorecards: Client<typeof ScorecardService>;
  readonly followUps: Client<typeof FollowUpService>;
  readonly cases: Client<typeof CaseService>;
  readonly calendars: Client<typeof CalendarService>;
  readonly deadlines: Client<typeof DeadlineService>;
  readonly exceptions: Client<typeof ExceptionService>;
  readonly merging: Client<typeof MergeService>;
  readonly workLists: Client<typeof WorkListService>;
  readonly indicators: Client<typeof IndicatorService>;
  readonly warningCentre: Client<typeof WarningCentreService>;
  readonly visits: Client<typeof VisitService>;
  readonly warningChannels: Client<typeof WarningChannelService>;
  readonly plans: Client<typeof PlanService>;
  readonly handovers: Client<typeof HandoverService>;
  readonly tiers: Client<typeof TierService>;
  readonly routing: Client<typeof RoutingService>;
  readonly whistles: Client<typeof WhistleService>;
  readonly imports: Client<typeof ImportService>;
  readonly collaboration: Client<typeof CollaborationService>;
  readonly notices: Client<typeof NoticeService>;
  readonly requests: Client<typeof RequestService>;
  readonly serviceItems: Client<typeof ServiceItemService>;
  readonly federation: Client<typeof FederationService>;
  /** Opens a session that renews itself; gives the caller's resource name, for example "people/resident.01". */
  signIn(login: string, password: string): Promise<string>;
  /** Ends the session at the node; does nothing when there is none. */
  signOut(): Promise<void>;
}

/** Clients for the services of one node, over gRPC-Web through its gateway. Nothing is sent until the first call. */
export function connect(options: Options): Quintet {
  const common = { baseUrl: options.baseUrl, defaultTimeoutMs: options.deadlineMs ?? DEADLINE_MS };
  const session = new Session(createGrpcWebTransport(common), options.token ?? "");
  const transport = createGrpcWebTransport({ ...common, interceptors: [session.interceptor] });
  return {
    identity: createClient(IdentityService, transport),
    directory: createClient(DirectoryService, transport),
    perception: createClient(PerceptionService, transport),
    sharing: createClient(SharingService, transport),
    management: createClient(ManagementService, transport),
    analysis: createClient(AnalysisService, transport),
    evidence: createClient(EvidenceService, transport),
    componentTypes: createClient(ComponentTypeService, transport),
    loops: createClient(LoopService, transport),
    reports: createClient(ReportService, transport),
    scorecards: createClient(ScorecardService, transport),
    followUps: createClient(FollowUpService, transport),
    cases: createClient(CaseService, transport),
    calendars: createClient(CalendarService, transport),
    deadlines: createClient(DeadlineService, transport),
    exceptions: createClient(ExceptionService, transport),
    merging: createClient(MergeService, transport),
    workLists: createClient(WorkListService, transport),
    indicators: createClient(IndicatorService, transport),
    warningCentre: createClient(WarningCentreService, transport),
    visits: createClient(VisitService, transport),
    warningChannels: createClient(WarningChannelService, transport),
    plans: createClient(PlanService, transport),
    handovers: createClient(HandoverService, transport),
    tiers: createClient(TierService, transport),
    routing: createClient(RoutingService, transport),
    whistles: createClient(WhistleService, transport),
    imports: createClient(ImportService, transport),
    collaboration: createClient(CollaborationService, transport),
    notices: createClient(NoticeService, transport),
    requests: createClient(RequestService, transport),
    serviceItems: createClient(ServiceItemService, transport),
    federation: createClient(FederationService, transport),
    signIn: (login, password) => session.signIn(login, password),
    signOut: () => session.signOut(),
  };
}

/** An id that makes one change idempotent: keep it, and send the call again with it when no answer came. */
export function newRequestId(): string {
  return crypto.randomUUID();
}
