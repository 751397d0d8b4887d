"""The public keys of the node's access tokens (RFC 7517), as verifiers outside of it fetch them."""

import json
from collections.abc import Awaitable, Callable

import structlog
from google.protobuf import json_format

from gateway.adapters.cached import Cached
from libs.channel import RemoteFaultError
from libs.errors import DomainError
from libs.tokens import JWKS_STALE_MAX_S
from quintet.identity.v1.identity_pb2 import GetJwksResponse

JWKS_FRESH_S = 5.0
# identity publishes a key long before it signs with it: those who keep the set this long miss nothing.
JWKS_MAX_AGE_S = 60

log = structlog.get_logger(__name__)


class Jwks:
    """Fresh for JWKS_FRESH_S. While identity is away the last set stays good as long as the services keep theirs."""

    def __init__(self, fetch: Callable[[], Awaitable[GetJwksResponse]]) -> None:
        self._fetch = fetch
        self._sets = Cached(self._fetched, JWKS_FRESH_S)

    async def get(self) -> bytes:
        """The set as JSON. Raises Away or RemoteFaultError when identity does not answer and has not for long."""
        try:
            return await self._sets.get()
        except (DomainError, RemoteFaultError) as error:
            last = self._sets.last()
            if last is None or last[0] > JWKS_STALE_MAX_S:
                raise
            log.warning("jwks.stale", age_s=round(last[0]), error=str(error))
            return last[1]

    async def _fetched(self) -> bytes:
        found = await self._fetch()
        keys = [json_format.MessageToDict(key, preserving_proto_field_name=True) for key in found.keys]
        return json.dumps({"keys": keys}).encode()
