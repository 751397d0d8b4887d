"""The two gRPC services of identity, put together from their halves."""

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs.tx import Transactions
from services.identity.keys import SigningKeys
from services.identity.passwords import Passwords
from services.identity.resolver import AccessResolver
from services.identity.service_accounts import AccountMethods
from services.identity.service_audit import AuditMethods, Parts
from services.identity.service_letters import LetterMethods
from services.identity.service_sessions import SessionMethods
from services.identity.service_zones import ZoneMethods
from services.identity.sign_in import Sessions


class Directory(ZoneMethods, AccountMethods):
    """DirectoryService: zones and organisations, people, roles and service accounts."""

    def __init__(self, transactions: Transactions, resolver: AccessResolver, passwords: Passwords, root: str) -> None:
        """See the halves."""
        ZoneMethods.__init__(self, transactions, resolver, root)
        AccountMethods.__init__(self, transactions, resolver, passwords, root)


class Identity(SessionMethods, AuditMethods, LetterMethods):
    """IdentityService: sessions, keys and access, the audit query, and the dead letters of all services."""

    def __init__(
        self,
        transactions: Transactions,
        sessions: Sessions,
        keys: SigningKeys,
        resolver: AccessResolver,
        parts: Parts,
        node_key: Callable[[], Ed25519PrivateKey],
    ) -> None:
        """See the halves."""
        SessionMethods.__init__(self, transactions, sessions, keys, resolver)
        AuditMethods.__init__(self, parts, transactions, node_key)
        LetterMethods.__init__(self, parts)
