"""Signing in, keys and access: the first half of IdentityService."""

from google.protobuf.timestamp_pb2 import Timestamp

from libs.access import current_caller
from libs.errors import Reason, WrongState
from libs.tx import Transactions
from quintet.identity.v1 import identity_pb2, identity_pb2_grpc
from services.identity import messages, store_accounts
from services.identity.keys import SigningKeys
from services.identity.model import PEOPLE
from services.identity.resolver import AccessResolver
from services.identity.sign_in import Issued, Sessions


class SessionMethods(identity_pb2_grpc.IdentityServiceServicer):
    """The methods of IdentityService that are about who somebody is."""

    def __init__(
        self, transactions: Transactions, sessions: Sessions, keys: SigningKeys, resolver: AccessResolver
    ) -> None:
        self._transactions = transactions
        self._sessions = sessions
        self._keys = keys
        self._resolver = resolver

    async def SignIn(self, request: identity_pb2.SignInRequest, _context: object) -> identity_pb2.SignInResponse:
        issued = await self._sessions.open(request.login, request.password)
        return identity_pb2.SignInResponse(tokens=_tokens(issued), subject=issued.subject)

    async def RefreshSession(
        self, request: identity_pb2.RefreshSessionRequest, _context: object
    ) -> identity_pb2.RefreshSessionResponse:
        issued = await self._sessions.refresh(request.refresh_token)
        return identity_pb2.RefreshSessionResponse(tokens=_tokens(issued))

    async def SignOut(self, _request: identity_pb2.SignOutRequest, _context: object) -> identity_pb2.SignOutResponse:
        caller = current_caller()
        if not caller.session:
            raise WrongState(Reason.WRONG_STATE, "the token belongs to no session")
        await self._sessions.end(caller.subject, caller.session)
        return identity_pb2.SignOutResponse()

    async def GetProfile(
        self, _request: identity_pb2.GetProfileRequest, _context: object
    ) -> identity_pb2.GetProfileResponse:
        caller = current_caller()
        response = identity_pb2.GetProfileResponse(
            subject=caller.subject, grants=messages.grant_messages(caller.grants)
        )
        if caller.subject.startswith(PEOPLE):
            person = await self._transactions.read(lambda conn: store_accounts.get_account(conn, caller.subject))
            if person is not None:
                response.person.CopyFrom(messages.person_message(person))
        return response

    async def GetJwks(self, _request: identity_pb2.GetJwksRequest, _context: object) -> identity_pb2.GetJwksResponse:
        return identity_pb2.GetJwksResponse(keys=[identity_pb2.Jwk(**jwk) for jwk in self._keys.published()])

    async def ResolveAccess(
        self, request: identity_pb2.ResolveAccessRequest, _context: object
    ) -> identity_pb2.ResolveAccessResponse:
        access = await self._resolver.resolve(request.subject, request.session)
        return identity_pb2.ResolveAccessResponse(
            grants=messages.grant_messages(access.grants), active=access.active, organisations=access.organisations
        )


def _tokens(issued: Issued) -> identity_pb2.Tokens:
    expires_at = Timestamp()
    expires_at.FromDatetime(issued.expires_at)
    return identity_pb2.Tokens(
        access_token=issued.access_token, expires_at=expires_at, refresh_token=issued.refresh_token
    )
