import asyncio
from datetime import UTC, datetime, timedelta

import grpc

from quintet.identity.v1.identity_pb2 import RefreshSessionRequest, SignInRequest, SignOutRequest, Tokens
from quintet.identity.v1.identity_pb2_grpc import IdentityServiceStub
from quintet_sdk._errors import QuintetError

# Renewed this long before the end, so that a call does not arrive with a token that has just ended.
RENEW_BEFORE_S = 60


class Session:
    """The tokens of one signed-in caller; empty until `sign_in`."""

    def __init__(self, identity: IdentityServiceStub) -> None:
        self._identity = identity
        self._tokens: Tokens | None = None
        self._renewing = asyncio.Lock()

    async def sign_in(self, login: str, password: str) -> str:
        """Opens a session and returns the caller's resource name; raises QuintetError."""
        answer = await self._identity.SignIn(SignInRequest(login=login, password=password))
        self._tokens = answer.tokens
        return answer.subject

    async def sign_out(self) -> None:
        """Ends the session; does nothing when there is none."""
        if self._tokens is not None:
            await self._identity.SignOut(SignOutRequest())
            self._tokens = None

    async def token(self) -> str:
        """A token that is good for the next call; empty when nobody is signed in."""
        tokens = self._tokens
        if tokens is not None and _ends_soon(tokens):
            await self.renew(tokens.access_token)
            tokens = self._tokens
        return "" if tokens is None else tokens.access_token

    async def renew(self, refused: str) -> bool:
        """Replaces the tokens unless another call has replaced `refused` meanwhile; False when that is impossible.

        A refresh token works once, so only one call may use it.
        """
        async with self._renewing:
            if self._tokens is None:
                return False
            if self._tokens.access_token != refused:
                return True
            request = RefreshSessionRequest(refresh_token=self._tokens.refresh_token)
            try:
                answer = await self._identity.RefreshSession(request)
            except QuintetError as error:
                if error.code is grpc.StatusCode.UNAUTHENTICATED:
                    self._tokens = None
                    return False
                raise
            self._tokens = answer.tokens
            return True


def _ends_soon(tokens: Tokens) -> bool:
    return tokens.expires_at.ToDatetime(UTC) - datetime.now(UTC) < timedelta(seconds=RENEW_BEFORE_S)
