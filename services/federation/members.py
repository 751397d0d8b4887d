"""What membership is made of: joining, standing, certificates, and the two ports that other nodes reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from libs.config import Secrets
from libs.errors import Away
from libs.node_key import NodeKeys
from libs.turns import every
from libs.tx import Transactions
from libs.zones import ZoneTree
from services.federation import link_server
from services.federation.certificates import Certificates
from services.federation.clocks import Clocks
from services.federation.hub import Hub
from services.federation.joining import Joiner
from services.federation.membership import Membership, state_peer
from services.federation.negotiation import Negotiator
from services.federation.renewal import Renewer
from services.federation.rotation import Rotation
from services.federation.server_certificate import ServerCertificate
from services.federation.signing import NodeSigner
from services.federation.standing import Standing
from services.federation.trust import Trust
from services.federation.trust_guard import TrustGuard
from services.federation.trust_link import TrustLink
from services.federation.warden import Warden

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from libs.rpc import Server
    from libs.supervisor import Work
    from services.federation.control import ControlHandler
    from services.federation.link import FrameHandler

FREE_INTERVAL_S = 10.0
GRACE_DEFAULT = timedelta(hours=72)


@dataclass(frozen=True)
class Basis:
    """What membership stands on. `title` is the node's name for people."""

    node: str
    title: str
    zone: str
    transactions: Transactions
    secrets: Secrets
    keys: NodeKeys
    signer: NodeSigner
    trust: Trust
    negotiator: Negotiator
    zones: Callable[[], ZoneTree]
    hub: Hub
    grace: timedelta = GRACE_DEFAULT


class Members:
    """The parts, wired to each other."""

    def __init__(self, basis: Basis) -> None:
        self._basis = basis
        node, transactions, hub = basis.node, basis.transactions, basis.hub
        self.authority = basis.trust.authority
        self.certificates = Certificates(node, basis.trust, transactions)
        self.membership = Membership(
            node=node,
            title=basis.title,
            zone=basis.zone,
            trust=basis.trust,
            certificates=self.certificates,
            transactions=transactions,
            negotiator=basis.negotiator,
            zones=basis.zones,
        )
        self.joiner = Joiner(node, transactions, self.membership, basis.negotiator, basis.trust, basis.secrets)
        self.standing = Standing(basis.node, basis.negotiator, basis.trust, basis.zones, hub.wake)
        self.renewer = Renewer(node, transactions, basis.signer, basis.trust, hub, basis.secrets)
        self.warden = Warden(transactions, hub, basis.grace)
        self.trust_link = TrustLink(basis.trust, hub, transactions)
        self.rotation = Rotation(basis.trust, basis.keys, basis.secrets, transactions)
        self._clocks = Clocks(transactions)
        self.guard = TrustGuard(basis.trust, hub, basis.secrets, transactions)
        basis.trust.peer_changed = lambda tx, node: state_peer(tx, basis.trust, node)
        hub.refused = self.standing.refused
        hub.admit = self.guard.admit

    @property
    def control(self) -> Mapping[str, ControlHandler]:
        """The kinds of control messages that are handled here."""
        return {"membership_message": self.standing.handle}

    @property
    def frames(self) -> Mapping[str, FrameHandler]:
        """The kinds of frames that are handled here."""
        return {
            "certificate_request": self.certificates.asked,
            "certificate": self.renewer.taken,
            "ping": self._clocks.heard,
            "trust_list": self.trust_link.heard,
            "trust_taken": self.trust_link.taken,
        }

    @property
    def tasks(self) -> Mapping[str, Work]:
        """The background work."""
        return {
            "joining": self.joiner.run,
            "standing": self._free,
            "renewal": self.renewer.run,
            "warden": self.warden.run,
            "trust_link": self.trust_link.run,
            "rotation": self.rotation.run,
            "trust_guard": self.guard.run,
        }

    async def _free(self) -> None:
        """Act on what came back from children that are gone, and free the queues of peers whose membership is over.

        For ever. All replicas may: the second finds nothing.
        """
        await every(FREE_INTERVAL_S, self._return, failed="members.return_interrupted", bears=Away)

    async def _return(self) -> None:
        while await self._basis.transactions.run(self.standing.state_again):
            pass
        await self._basis.transactions.run(self.standing.free)

    def servers(self) -> tuple[Server, Server]:
        """Return new servers of the join port and of the link port. A server serves once."""
        basis = self._basis
        join = link_server.join_server(
            link_server.JoinerAuthenticator(basis.zones),
            link_server.MembershipServicer(self.membership, self.certificates),
        )
        link = link_server.link_server(
            link_server.CertificateAuthenticator(basis.node, basis.transactions, basis.zones),
            link_server.LinkServicer(basis.node, basis.hub, basis.transactions),
        )
        return join, link

    def server_certificate(self, hosts: Sequence[str]) -> ServerCertificate:
        """Return the certificate of the two ports."""
        return ServerCertificate(self.authority, hosts, self._basis.transactions.clock)
