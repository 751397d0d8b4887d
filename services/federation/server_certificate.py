"""The certificates of this node's own two ports, short-lived and renewed without a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from services.federation import pki
from services.federation.renewal import RENEW_AT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.clock import Clock


class ServerCertificate:
    """Made by the node's own authority; each handshake after RENEW_AT of its life gets the next one."""

    def __init__(self, authority: pki.Authority, hosts: Sequence[str], clock: Clock) -> None:
        self._authority = authority
        self._hosts = list(hosts)
        self._clock = clock
        self._root = authority.root_certificate
        self._own = authority.server(self._hosts, clock.now())

    @property
    def present(self) -> str:
        """The certificate that is shown now, PEM."""
        return self._own.certificate

    def credentials(self, *, mutual: bool = False) -> grpc.ServerCredentials:
        """Return TLS credentials; when mutual, callers must show a certificate that this node's root issued."""

        def roots() -> bytes | None:
            return self._authority.client_roots(self._clock.now()).encode() if mutual else None

        def configuration() -> grpc.ServerCertificateConfiguration:
            pair = (self._own.key.encode(), self._own.certificate.encode())
            return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots())

        shown = self._own, roots()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Asked at each handshake, in a thread of the library; None keeps what is shown.
            nonlocal shown
            self._renew()
            now = self._own, roots()
            if shown == now:
                return None
            shown = now
            return configuration()

        return grpc.dynamic_ssl_server_credentials(
            configuration(),
            fetch,  # type: ignore[arg-type]  # the stubs do not know that it may return None
            require_client_authentication=mutual,
        )

    def _renew(self) -> None:
        begins, ends = pki.lifetime(self._own.certificate)
        now, root = self._clock.now(), self._authority.root_certificate
        if root != self._root or now >= begins + (ends - begins) * RENEW_AT:
            self._root = root
            self._own = self._authority.server(self._hosts, now)
