"""FederationService: what the people of this node do with its peers and contracts."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from libs.access import current_caller
from quintet.federation.v1 import directive_pb2, evidence_pb2, federation_pb2_grpc, trust_pb2
from quintet.federation.v1 import federation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import grpc

    from services.federation.contracts_service import ContractsHandler
    from services.federation.deletions import Deletions
    from services.federation.directives_service import DirectivesHandler
    from services.federation.disclosures_service import DisclosuresHandler
    from services.federation.event_evidence import EventEvidence
    from services.federation.evidence_service import EvidenceHandler
    from services.federation.links_service import LinksHandler
    from services.federation.peers_service import PeersHandler
    from services.federation.queries_service import QueriesHandler
    from services.federation.settlement_service import SettlementsHandler
    from services.federation.transfers_service import TransfersHandler
    from services.federation.trust_service import TrustHandler

    Context = grpc.aio.ServicerContext[Any, Any]


class FederationServicer(federation_pb2_grpc.FederationServiceServicer):
    """Hands each call to the half that it is about."""

    def __init__(
        self,
        peers: PeersHandler,
        contracts: ContractsHandler,
        queries: QueriesHandler,
        settlements: SettlementsHandler,
        directives: DirectivesHandler,
        transfers: TransfersHandler,
        links: LinksHandler,
        disclosures: DisclosuresHandler,
        deletions: Deletions,
        evidence: EvidenceHandler,
        trust: TrustHandler,
        event_evidence: EventEvidence,
    ) -> None:
        self._peers = peers
        self._contracts = contracts
        self._queries = queries
        self._settlements = settlements
        self._directives = directives
        self._transfers = transfers
        self._links = links
        self._disclosures = disclosures
        self._deletions = deletions
        self._evidence = evidence
        self._trust = trust
        self._event_evidence = event_evidence

    async def CreateInvitation(
        self, request: pb.CreateInvitationRequest, context: Context
    ) -> pb.CreateInvitationResponse:
        return await self._peers.invite(request)

    async def JoinPeer(self, request: pb.JoinPeerRequest, context: Context) -> pb.JoinPeerResponse:
        return await self._peers.join(request)

    async def ApprovePeer(self, request: pb.ApprovePeerRequest, context: Context) -> pb.ApprovePeerResponse:
        return await self._peers.approve(request, current_caller().subject)

    async def RejectPeer(self, request: pb.RejectPeerRequest, context: Context) -> pb.RejectPeerResponse:
        return await self._peers.reject(request)

    async def SuspendPeer(self, request: pb.SuspendPeerRequest, context: Context) -> pb.SuspendPeerResponse:
        return await self._peers.standing.suspend(request)

    async def ResumePeer(self, request: pb.ResumePeerRequest, context: Context) -> pb.ResumePeerResponse:
        return await self._peers.standing.resume(request)

    async def LeavePeer(self, request: pb.LeavePeerRequest, context: Context) -> pb.LeavePeerResponse:
        return await self._peers.standing.leave(request)

    async def ExpelPeer(self, request: pb.ExpelPeerRequest, context: Context) -> pb.ExpelPeerResponse:
        return await self._peers.standing.expel(request)

    async def WithdrawZone(self, request: pb.WithdrawZoneRequest, context: Context) -> pb.WithdrawZoneResponse:
        return await self._peers.standing.withdraw_zone(request)

    async def RevokeCertificate(
        self, request: pb.RevokeCertificateRequest, context: Context
    ) -> pb.RevokeCertificateResponse:
        return await self._peers.standing.revoke(request)

    async def GetPeer(self, request: pb.GetPeerRequest, context: Context) -> pb.GetPeerResponse:
        return await self._peers.get(request)

    async def ListPeers(self, request: pb.ListPeersRequest, context: Context) -> pb.ListPeersResponse:
        return await self._peers.page(request)

    async def ListPeerDeadLetters(
        self, request: pb.ListPeerDeadLettersRequest, context: Context
    ) -> pb.ListPeerDeadLettersResponse:
        return await self._links.page(request)

    async def RetryPeerDeadLetter(
        self, request: pb.RetryPeerDeadLetterRequest, context: Context
    ) -> pb.RetryPeerDeadLetterResponse:
        return await self._links.retry(request)

    async def DiscardPeerDeadLetter(
        self, request: pb.DiscardPeerDeadLetterRequest, context: Context
    ) -> pb.DiscardPeerDeadLetterResponse:
        return await self._links.discard(request)

    async def ResynchronisePeer(
        self, request: pb.ResynchronisePeerRequest, context: Context
    ) -> pb.ResynchronisePeerResponse:
        return await self._links.resynchronise(request)

    async def ListPeerProducts(
        self, request: pb.ListPeerProductsRequest, context: Context
    ) -> pb.ListPeerProductsResponse:
        return await self._peers.products(request, current_caller().subject)

    async def RequestContract(self, request: pb.RequestContractRequest, context: Context) -> pb.RequestContractResponse:
        return await self._contracts.request(request)

    async def AgreeContract(self, request: pb.AgreeContractRequest, context: Context) -> pb.AgreeContractResponse:
        return await self._contracts.agree(request)

    async def VerifyContract(self, request: pb.VerifyContractRequest, context: Context) -> pb.VerifyContractResponse:
        return await self._contracts.verify(request)

    async def TerminateContract(
        self, request: pb.TerminateContractRequest, context: Context
    ) -> pb.TerminateContractResponse:
        return await self._contracts.terminate(request)

    async def GetContract(self, request: pb.GetContractRequest, context: Context) -> pb.GetContractResponse:
        return await self._contracts.get(request)

    async def ListContracts(self, request: pb.ListContractsRequest, context: Context) -> pb.ListContractsResponse:
        return await self._contracts.page(request)

    async def OfferContract(self, request: pb.OfferContractRequest, context: Context) -> pb.OfferContractResponse:
        return await self._contracts.offer(request)

    async def AcceptContract(self, request: pb.AcceptContractRequest, context: Context) -> pb.AcceptContractResponse:
        return await self._contracts.accept(request)

    async def AmendContract(self, request: pb.AmendContractRequest, context: Context) -> pb.AmendContractResponse:
        return await self._contracts.amend(request)

    async def ListContractSteps(
        self, request: pb.ListContractStepsRequest, context: Context
    ) -> pb.ListContractStepsResponse:
        return await self._contracts.steps(request)

    async def RequestTransfer(self, request: pb.RequestTransferRequest, context: Context) -> pb.RequestTransferResponse:
        return await self._transfers.request(request)

    async def GetTransfer(self, request: pb.GetTransferRequest, context: Context) -> pb.GetTransferResponse:
        return await self._transfers.get(request)

    async def ListTransfers(self, request: pb.ListTransfersRequest, context: Context) -> pb.ListTransfersResponse:
        return await self._transfers.page(request)

    async def StartTransfer(self, request: pb.StartTransferRequest, context: Context) -> pb.StartTransferResponse:
        return await self._transfers.start(request)

    async def SuspendTransfer(self, request: pb.SuspendTransferRequest, context: Context) -> pb.SuspendTransferResponse:
        return await self._transfers.suspend(request)

    async def CompleteTransfer(
        self, request: pb.CompleteTransferRequest, context: Context
    ) -> pb.CompleteTransferResponse:
        return await self._transfers.complete(request)

    async def TerminateTransfer(
        self, request: pb.TerminateTransferRequest, context: Context
    ) -> pb.TerminateTransferResponse:
        return await self._transfers.terminate(request)

    async def QueryContract(self, request: pb.QueryContractRequest, context: Context) -> pb.QueryContractResponse:
        return await self._queries.query(request, current_caller().subject)

    async def StreamContract(
        self, request: pb.StreamContractRequest, context: Context
    ) -> AsyncGenerator[pb.StreamContractResponse, None]:
        async with aclosing(self._queries.stream(request, current_caller().subject)) as pages:
            async for page in pages:
                yield page

    async def FetchEventEvidence(
        self, request: pb.FetchEventEvidenceRequest, context: Context
    ) -> AsyncGenerator[pb.FetchEventEvidenceResponse, None]:
        async with aclosing(self._event_evidence.fetch(request)) as parts:
            async for part in parts:
                yield part

    async def ListDeletionProofs(
        self, request: pb.ListDeletionProofsRequest, context: Context
    ) -> pb.ListDeletionProofsResponse:
        return await self._deletions.page(request)

    async def ListRefusals(self, request: pb.ListRefusalsRequest, context: Context) -> pb.ListRefusalsResponse:
        return await self._contracts.refusals(request)

    async def ListSettlements(self, request: pb.ListSettlementsRequest, context: Context) -> pb.ListSettlementsResponse:
        return await self._settlements.page(request)

    async def ReconcileContract(
        self, request: pb.ReconcileContractRequest, context: Context
    ) -> pb.ReconcileContractResponse:
        return await self._settlements.reconcile(request)

    async def SendDirective(
        self, request: directive_pb2.SendDirectiveRequest, context: Context
    ) -> directive_pb2.SendDirectiveResponse:
        return await self._directives.send(request)

    async def GetDirective(
        self, request: directive_pb2.GetDirectiveRequest, context: Context
    ) -> directive_pb2.GetDirectiveResponse:
        return await self._directives.get(request)

    async def AcknowledgeDirective(
        self, request: directive_pb2.AcknowledgeDirectiveRequest, context: Context
    ) -> directive_pb2.AcknowledgeDirectiveResponse:
        return await self._directives.acknowledge(request)

    async def AnswerDirective(
        self, request: directive_pb2.AnswerDirectiveRequest, context: Context
    ) -> directive_pb2.AnswerDirectiveResponse:
        return await self._directives.answer(request)

    async def CancelDirective(
        self, request: directive_pb2.CancelDirectiveRequest, context: Context
    ) -> directive_pb2.CancelDirectiveResponse:
        return await self._directives.cancel(request)

    async def ListDirectives(
        self, request: directive_pb2.ListDirectivesRequest, context: Context
    ) -> directive_pb2.ListDirectivesResponse:
        return await self._directives.page(request)

    async def ListMyDisclosures(
        self, request: pb.ListMyDisclosuresRequest, context: Context
    ) -> pb.ListMyDisclosuresResponse:
        return await self._disclosures.mine(request)

    async def ListDisclosures(self, request: pb.ListDisclosuresRequest, context: Context) -> pb.ListDisclosuresResponse:
        return await self._disclosures.of(request)

    async def ListCosignatures(
        self, request: evidence_pb2.ListCosignaturesRequest, context: Context
    ) -> evidence_pb2.ListCosignaturesResponse:
        return await self._evidence.cosignatures(request)

    async def ListPeerCheckpoints(
        self, request: evidence_pb2.ListPeerCheckpointsRequest, context: Context
    ) -> evidence_pb2.ListPeerCheckpointsResponse:
        return await self._evidence.checkpoints(request)

    async def ForgetPeerCheckpoint(
        self, request: evidence_pb2.ForgetPeerCheckpointRequest, context: Context
    ) -> evidence_pb2.ForgetPeerCheckpointResponse:
        return await self._evidence.forget(request)

    async def ListReceipts(
        self, request: evidence_pb2.ListReceiptsRequest, context: Context
    ) -> evidence_pb2.ListReceiptsResponse:
        return await self._evidence.receipts(request)

    async def ListSigningKeys(
        self, request: evidence_pb2.ListSigningKeysRequest, context: Context
    ) -> evidence_pb2.ListSigningKeysResponse:
        return await self._evidence.keys(request)

    async def RotateSigningKey(
        self, request: trust_pb2.RotateSigningKeyRequest, context: Context
    ) -> trust_pb2.RotateSigningKeyResponse:
        return await self._trust.rotate_key(request)

    async def GetTrustList(
        self, request: trust_pb2.GetTrustListRequest, context: Context
    ) -> trust_pb2.GetTrustListResponse:
        return await self._trust.get(request)

    async def ListTrustLists(
        self, request: trust_pb2.ListTrustListsRequest, context: Context
    ) -> trust_pb2.ListTrustListsResponse:
        return await self._trust.page(request)

    async def AcceptTrustList(
        self, request: trust_pb2.AcceptTrustListRequest, context: Context
    ) -> trust_pb2.AcceptTrustListResponse:
        return await self._trust.accept(request)

    async def RotateRoot(self, request: trust_pb2.RotateRootRequest, context: Context) -> trust_pb2.RotateRootResponse:
        return await self._trust.rotate_root(request)
