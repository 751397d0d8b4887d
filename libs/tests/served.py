"""A service on a real channel, called with real tokens: for the tests of services."""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from libs.access import Caller, Grant, Grants, Kind, acting_as
from libs.channel import Channel, channel
from libs.rpc import Server, TokenAuthenticator
from libs.tests import callers
from libs.tokens import ServiceSigner
from libs.zones import ZoneTree

# A service with a key in the test verifier, whatever it is called: it stands for any service of the node.
SERVICE = "services/management"


@asynccontextmanager
async def served(
    part: str,
    register: Callable[[Any, Any], None],
    servicer: object,
    service: ServiceDescriptor,
    held: Mapping[str, Collection[Grant]],
    tree: Callable[[], ZoneTree],
) -> AsyncIterator[Channel]:
    """Serve until the block ends. The channel calls as whoever `calling_as` names; errors come back as ours.

    `held` are the grants by subject; those of SERVICE are a service's.
    """
    grants = {subject: Grants(subject, given, tree) for subject, given in held.items()}
    server = Server(part, TokenAuthenticator(callers.verifier(), callers.StaticGrants(grants)))
    server.add(register, servicer, service)
    port = await server.start()
    opened = channel(f"127.0.0.1:{port}", as_caller=True, dependency=part)
    try:
        yield opened
    finally:
        await opened.close()
        await server.stop(0)


@contextmanager
def calling_as(subject: str) -> Iterator[None]:
    """Carry this subject's token on the calls of the block; "" for none."""
    if subject == SERVICE:
        token = ServiceSigner("management", callers.SERVICE_KEYS["management"]).token()
    else:
        token = callers.token(subject) if subject else ""
    with acting_as(Caller(subject, Kind.PERSON, callers.grants(subject), token)):
        yield
