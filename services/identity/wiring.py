"""How identity is put together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libs.config import PARTS
from libs.host import Host, Part, Wired
from libs.purge import Keep, Purger
from quintet.identity.v1 import directory_pb2, directory_pb2_grpc, identity_pb2, identity_pb2_grpc
from services.identity import bootstrap, facts
from services.identity.keys import SigningKeys
from services.identity.model import LOCK_S, SIGN_IN_WINDOW_S
from services.identity.passwords import Passwords
from services.identity.resolver import AccessResolver
from services.identity.service import Directory, Identity
from services.identity.sign_in import Sessions

SESSIONS_KEEP_S = 3600.0
KEPT = (
    Keep("sessions", "expires_at", SESSIONS_KEEP_S),
    Keep("sign_in_failures", "last_at", SIGN_IN_WINDOW_S + LOCK_S),
)


async def build(host: Host) -> Wired:
    """Build identity, and on the first start what nobody can sign in without (see bootstrap)."""
    transactions, secrets = host.transactions, host.config.secrets
    passwords = Passwords()
    keys = SigningKeys(secrets, host.clock)
    await bootstrap.prepare(transactions, passwords, secrets, zone=host.zone, node_name=host.config.node.name)
    resolver = AccessResolver(transactions, host.zone)
    await resolver.refresh()
    directory = Directory(transactions, resolver, passwords, host.zone)
    sessions = Sessions(transactions, passwords, keys, host.zone)
    parts = {part: host.channel_to(part) for part in PARTS}
    identity = Identity(transactions, sessions, keys, resolver, parts, host.node_keys.present)

    async def jwks() -> Mapping[str, Any]:
        return {"keys": keys.published()}

    directory_service = directory_pb2.DESCRIPTOR.services_by_name["DirectoryService"]
    identity_service = identity_pb2.DESCRIPTOR.services_by_name["IdentityService"]
    return Wired(
        servicers=[
            (directory_pb2_grpc.add_DirectoryServiceServicer_to_server, directory, directory_service),
            (identity_pb2_grpc.add_IdentityServiceServicer_to_server, identity, identity_service),
        ],
        handlers=facts.handlers(),
        tasks={"sessions": Purger(transactions, KEPT).run},
        grants=resolver,
        jwks=jwks,
    )


PART = Part("identity", Path(__file__).parent / "migrations", build)
