import asyncio
from typing import Any

import pytest

from libs import remote_grants
from libs.context import deadline
from libs.errors import Away, Reason
from libs.remote_grants import RemoteGrants
from libs.tests.callers import TREE
from quintet.identity.v1 import directory_pb2, identity_pb2

ME = "people/me"
READ = "management.events.read"


class Identity:
    """Answers ResolveAccess, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.asked: list[tuple[str, str]] = []
        self.grants = [identity_pb2.Grant(permission=READ, scope=directory_pb2.SCOPE_ZONE, zone="us-ca-sf")]
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()

    async def ResolveAccess(self, request: identity_pb2.ResolveAccessRequest) -> identity_pb2.ResolveAccessResponse:
        self.asked.append((request.subject, request.session))
        answer = identity_pb2.ResolveAccessResponse(grants=self.grants, active=True, organisations=["organisations/a"])
        self.waiting.set()
        await self.gate.wait()
        if self.away:
            raise Away(Reason.DEPENDENCY_AWAY)
        return answer


@pytest.fixture
def identity() -> Identity:
    return Identity()


class Now:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def source(identity: Identity, now: Now) -> RemoteGrants:
    stub: Any = identity
    return RemoteGrants(stub, lambda: TREE, clock=now)


async def test_an_answer_counts_for_a_while(source: RemoteGrants, identity: Identity, now: Now) -> None:
    grants = await source.grants(ME, "s1")
    assert grants.allows(READ, "us-ca-sf-d10")
    assert grants.organisations == {"organisations/a"}
    assert await source.grants(ME, "s1") is grants
    await source.grants(ME, "s2")
    assert identity.asked == [(ME, "s1"), (ME, "s2")]
    now.seconds += remote_grants.GRANTS_FRESH_S
    await source.grants(ME, "s1")
    assert len(identity.asked) == 3


async def test_those_who_ask_at_once_share_a_question(source: RemoteGrants, identity: Identity) -> None:
    identity.gate.clear()
    # The first to ask has little time left, and gives up: the others must not suffer from it.
    deadline.set(asyncio.get_running_loop().time())
    first = asyncio.create_task(source.grants(ME))
    others = [asyncio.create_task(source.grants(ME)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    identity.gate.set()
    for grants in await asyncio.gather(*others):
        assert grants.holds(READ)
    assert len(identity.asked) == 1


async def test_what_changed_is_asked_again_and_never_used_stale(source: RemoteGrants, identity: Identity) -> None:
    await source.grants(ME, "s1")
    await source.grants("people/other", "s9")
    source.changed(ME)
    identity.away = True
    with pytest.raises(Away):
        await source.grants(ME, "s1")
    await source.grants("people/other", "s9")
    source.changed()
    with pytest.raises(Away):
        await source.grants("people/other", "s9")


async def test_an_answer_from_before_a_change_is_not_kept(source: RemoteGrants, identity: Identity) -> None:
    identity.gate.clear()
    asking = asyncio.create_task(source.grants(ME))
    await asyncio.wait_for(identity.waiting.wait(), 5)
    source.changed(ME)
    identity.gate.set()
    await asking
    identity.grants = []
    assert not (await source.grants(ME)).holds(READ)


async def test_without_identity_the_last_answer_counts_for_ten_minutes(
    source: RemoteGrants, identity: Identity, now: Now
) -> None:
    await source.grants(ME)
    identity.away = True
    source.doubt()
    assert (await source.grants(ME)).holds(READ)
    asked = len(identity.asked)
    assert (await source.grants(ME)).holds(READ), "identity is not asked for every call"
    assert len(identity.asked) == asked
    now.seconds += remote_grants.GRANTS_STALE_MAX_S + 1
    with pytest.raises(Away):
        await source.grants(ME)


async def test_the_cache_is_bounded(source: RemoteGrants, monkeypatch: pytest.MonkeyPatch, identity: Identity) -> None:
    monkeypatch.setattr(remote_grants, "GRANTS_CACHE_MAX", 2)
    for subject in ("people/a", "people/b", "people/c", "people/c", "people/a"):
        await source.grants(subject)
    assert [subject for subject, _ in identity.asked] == ["people/a", "people/b", "people/c", "people/a"]


def test_scopes_of_newer_versions_give_nothing() -> None:
    grant = identity_pb2.Grant(permission=READ, zone="us-ca-sf")
    grant.scope = 9  # type: ignore[assignment]
    answer = identity_pb2.ResolveAccessResponse(grants=[grant], active=True)
    grants = remote_grants.grants_of(ME, answer, lambda: TREE)
    assert not grants.holds(READ)
