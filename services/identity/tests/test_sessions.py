"""Signing in, refreshing, signing out, keys and ResolveAccess through the running service."""

import asyncio
from datetime import timedelta

import argon2
import jwt
import pytest
from argon2.profiles import CHEAPEST

from libs.errors import DomainError, Exhausted, Forbidden, Reason, Unauthenticated, WrongState
from libs.purge import Purger
from quintet.common.v1.common_pb2 import LocalText
from quintet.identity.v1 import directory_pb2 as d
from quintet.identity.v1 import identity_pb2 as i
from quintet.identity.v1.facts_pb2 import AccessChanged
from services.identity import model, sign_in
from services.identity.keys import KEY_LEAD_S, SigningKeys
from services.identity.wiring import KEPT

from .conftest import PASSWORD, Client, Node, post


async def refused(node: Node, login: str, password: str) -> DomainError:
    with pytest.raises(DomainError) as raised:
        await node.sign_in(login, password)
    return raised.value


async def refresh(node: Node, token: str) -> i.Tokens:
    anybody = node.client()
    request = i.RefreshSessionRequest(refresh_token=token)
    response: i.RefreshSessionResponse = await anybody.call(anybody.identity.RefreshSession, request)
    return response.tokens


async def profile(client: Client) -> i.GetProfileResponse:
    found: i.GetProfileResponse = await client.call(client.identity.GetProfile, i.GetProfileRequest())
    return found


async def jwks(node: Node) -> list[i.Jwk]:
    anybody = node.client()
    response: i.GetJwksResponse = await anybody.call(anybody.identity.GetJwks, i.GetJwksRequest())
    return list(response.keys)


# ------------------------------------------------------------------------------------------------------------- sign-in


async def test_the_access_token_says_who_and_for_how_long(node: Node) -> None:
    await node.person("resident.01", post("resident"))
    anybody = node.client()
    request = i.SignInRequest(login="resident.01", password=PASSWORD)
    response = await anybody.call(anybody.identity.SignIn, request)
    key = jwt.PyJWK({name.name: value for name, value in (await jwks(node))[0].ListFields()})
    claims = jwt.decode(response.tokens.access_token, key, ["ES256"], audience="quintet", issuer="nodes/sf")
    assert claims["sub"] == response.subject == "people/resident.01"
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert claims["exp"] == response.tokens.expires_at.seconds
    assert claims["sid"]
    assert jwt.get_unverified_header(response.tokens.access_token)["kid"] == key.key_id
    seen = await profile(node.client(response.tokens.access_token))
    assert seen.subject == "people/resident.01"
    assert seen.person.display_name == "resident.01"


async def test_unknown_wrong_and_disabled_look_the_same(node: Node) -> None:
    admin = await node.admin()
    await node.person("resident.01", post("resident"))
    await node.person("resident.02", post("resident"))
    disabled = d.Person(name="people/resident.02", login="resident.02", posts=[post("resident")], disabled=True)
    await admin.call(admin.directory.PutPerson, d.PutPersonRequest(person=disabled))
    without_password = d.Person(name="people/resident.03", login="resident.03", posts=[post("resident")])
    await admin.call(admin.directory.PutPerson, d.PutPersonRequest(person=without_password))
    answers = [
        await refused(node, login, password)
        for login, password in (
            ("resident.01", "not the password"), ("resident.02", PASSWORD), ("resident.03", PASSWORD),
            ("nobody", PASSWORD), ("serviceAccounts/nobody", PASSWORD), ("people/resident.01", PASSWORD),
        )
    ]  # fmt: skip
    assert {(type(error), error.reason, error.message) for error in answers} == {
        (Unauthenticated, Reason.CREDENTIALS_WRONG, "the login or the password is wrong")
    }


@pytest.mark.parametrize("login", ["resident.01", "nobody", "serviceAccounts/nobody"])
async def test_several_failures_lock_a_login_for_a_while_whether_or_not_it_exists(node: Node, login: str) -> None:
    await node.person("resident.01", post("resident"))
    for _ in range(model.SIGN_IN_FAILURES_MAX):
        assert (await refused(node, login, "not the password")).reason == Reason.CREDENTIALS_WRONG
    locked = await refused(node, login, PASSWORD)
    assert isinstance(locked, Exhausted)
    assert locked.reason == Reason.LOGIN_LOCKED
    assert 0 < int(locked.metadata["retry_after_s"]) <= model.LOCK_S + 1
    node.clock.advance(timedelta(seconds=model.LOCK_S))
    if login == "resident.01":
        await node.sign_in(login)
        assert (await refused(node, login, "not the password")).reason == Reason.CREDENTIALS_WRONG
    else:
        assert (await refused(node, login, PASSWORD)).reason == Reason.CREDENTIALS_WRONG


async def test_many_guesses_at_once_are_counted_one_by_one(node: Node) -> None:
    await node.person("resident.01", post("resident"))
    answers = await asyncio.gather(*(refused(node, "resident.01", f"guess number {n}") for n in range(20)))
    reasons = [error.reason for error in answers]
    assert reasons.count(Reason.CREDENTIALS_WRONG) == model.SIGN_IN_FAILURES_MAX
    assert reasons.count(Reason.LOGIN_LOCKED) == 20 - model.SIGN_IN_FAILURES_MAX
    async with node.database.admin() as connection:
        entries = await connection.fetch("SELECT * FROM identity.audit_entries WHERE action = 'identity.logins.lock'")
    assert [entry["resource"] for entry in entries] == ["people/resident.01"]


async def test_a_success_forgets_the_failures(node: Node) -> None:
    await node.person("resident.01", post("resident"))
    for _ in range(3):
        for _ in range(model.SIGN_IN_FAILURES_MAX - 1):
            await refused(node, "resident.01", "not the password")
        await node.sign_in("resident.01")


@pytest.mark.parametrize("login", ["resident.01", "resident.02", "nobody"])
async def test_a_login_that_is_unknown_costs_as_much_as_a_known_one(
    node: Node, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    admin = await node.admin()
    await node.person("resident.01", post("resident"))
    without_password = d.Person(name="people/resident.02", login="resident.02", posts=[post("resident")])
    await admin.call(admin.directory.PutPerson, d.PutPersonRequest(person=without_password))
    hashes: list[str] = []
    verify = argon2.PasswordHasher.verify

    def counted(hasher: argon2.PasswordHasher, kept: str, password: str) -> bool:
        hashes.append(kept.rpartition("$")[0].rpartition("$")[0])  # the parameters, without salt and hash
        return bool(verify(hasher, kept, password))

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    await refused(node, login, "not the password")
    assert len(hashes) == 1
    assert argon2.extract_parameters(f"{hashes[0]}$c2FsdHNhbHQ$aGFzaGhhc2g").memory_cost == CHEAPEST.memory_cost


async def test_a_hash_of_old_parameters_is_renewed_when_its_password_is_at_hand(node: Node) -> None:
    await node.person("resident.01", post("resident"))
    old = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    async with node.database.admin() as connection:
        await connection.execute("UPDATE identity.accounts SET secret_hash = $1 WHERE login = 'resident.01'", old)
        await refused(node, "resident.01", "not the password")
        query = "SELECT secret_hash FROM identity.accounts WHERE login = 'resident.01'"
        assert await connection.fetchval(query) == old
        resident = await node.sign_in("resident.01")
        assert await connection.fetchval(query) != old
    assert (await profile(resident)).subject == "people/resident.01"
    await node.sign_in("resident.01")


async def test_only_so_many_sessions_stay_open(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "SESSIONS_PER_ACCOUNT_MAX", 2)
    first = await node.person("resident.01", post("resident"))
    second, third = await node.sign_in("resident.01"), await node.sign_in("resident.01")
    with pytest.raises(Unauthenticated):
        await profile(first)
    for each in (second, third):
        await profile(each)


async def test_what_has_run_out_is_purged(node: Node) -> None:
    await node.person("resident.01", post("resident"))
    await refused(node, "nobody", PASSWORD)
    async with node.database.admin() as connection:
        await connection.execute(
            """UPDATE identity.sessions SET expires_at = now() - interval '2 hours'
            WHERE account = 'people/resident.01'"""
        )
        await connection.execute("UPDATE identity.sign_in_failures SET last_at = now() - interval '2 hours'")
        await Purger(node.transactions, KEPT).purge()
        left = await connection.fetch("SELECT DISTINCT account FROM identity.sessions")
        assert [row["account"] for row in left] == ["people/node-admin"]
        tokens = await connection.fetchval("SELECT count(*) FROM identity.refresh_tokens")
        assert tokens == await connection.fetchval("SELECT count(*) FROM identity.sessions")
        assert await connection.fetchval("SELECT count(*) FROM identity.sign_in_failures") == 0


# ------------------------------------------------------------------------------------------------------------- refresh


async def test_a_refresh_token_works_once(node: Node) -> None:
    resident = await node.person("resident.01", post("resident"))
    tokens = await refresh(node, resident.refresh_token)
    assert tokens.refresh_token != resident.refresh_token
    renewed = node.client(tokens.access_token)
    assert (await profile(renewed)).subject == "people/resident.01"
    await refresh(node, tokens.refresh_token)


async def test_a_refresh_token_that_comes_again_ends_the_session_for_both(node: Node) -> None:
    resident = await node.person("resident.01", post("resident"))
    other = await node.sign_in("resident.01")
    tokens = await refresh(node, resident.refresh_token)
    with pytest.raises(Unauthenticated) as raised:
        await refresh(node, resident.refresh_token)
    assert raised.value.reason == Reason.REFRESH_TOKEN_USED
    for each in (resident, node.client(tokens.access_token)):
        with pytest.raises(Unauthenticated) as ended:
            await profile(each)
        assert ended.value.reason == Reason.SESSION_ENDED
    with pytest.raises(Unauthenticated) as ended:
        await refresh(node, tokens.refresh_token)
    assert ended.value.reason == Reason.SESSION_ENDED
    assert (await profile(other)).subject == "people/resident.01"
    assert [fact.subject for fact in await node.facts(AccessChanged)].count("people/resident.01") == 2


async def test_of_two_refreshes_at_once_one_ends_the_session(node: Node) -> None:
    resident = await node.person("resident.01", post("resident"))
    answers = await asyncio.gather(*(refresh(node, resident.refresh_token) for _ in range(2)), return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, DomainError)]
    assert [error.reason for error in errors] == [Reason.REFRESH_TOKEN_USED]


@pytest.mark.parametrize("token", ["x", "people/resident.01", "a" * 512])
async def test_refresh_tokens_of_others_are_refused(node: Node, token: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        await refresh(node, token)
    assert raised.value.reason == Reason.TOKEN_INVALID


async def test_sessions_end_by_themselves(node: Node) -> None:
    resident = await node.person("resident.01", post("resident"))
    node.clock.advance(timedelta(seconds=model.REFRESH_TOKEN_LIFE_S - 1))
    token = (await refresh(node, resident.refresh_token)).refresh_token
    node.clock.advance(timedelta(seconds=model.REFRESH_TOKEN_LIFE_S))
    with pytest.raises(Unauthenticated) as raised:
        await refresh(node, token)
    assert raised.value.reason == Reason.TOKEN_EXPIRED


async def test_only_hashes_of_refresh_tokens_are_kept(node: Node) -> None:
    resident = await node.person("resident.01", post("resident"))
    async with node.database.admin() as connection:
        rows = await connection.fetch("SELECT t::text AS row FROM identity.refresh_tokens t")
    token = resident.refresh_token
    assert rows
    assert not any(token in row["row"] or token.encode().hex() in row["row"] for row in rows)


# ------------------------------------------------------------------------------------------------------------ sign-out


async def test_after_signing_out_the_token_is_refused_and_the_others_are_not(node: Node) -> None:
    resident = await node.person("resident.01", post("resident"))
    other = await node.sign_in("resident.01")
    await resident.call(resident.identity.SignOut, i.SignOutRequest())
    with pytest.raises(Unauthenticated) as raised:
        await profile(resident)
    assert raised.value.reason == Reason.SESSION_ENDED
    with pytest.raises(Unauthenticated):
        await refresh(node, resident.refresh_token)
    await profile(other)
    assert [fact.subject for fact in await node.facts(AccessChanged)].count("people/resident.01") == 2
    with pytest.raises(Unauthenticated):
        await node.client().call(node.client().identity.SignOut, i.SignOutRequest())
    service = node.service("management")
    with pytest.raises(WrongState):
        await service.call(service.identity.SignOut, i.SignOutRequest())


async def test_every_session_is_in_the_audit_log_without_its_tokens(node: Node) -> None:
    resident = await node.person("resident.01", post("resident"))
    await resident.call(resident.identity.SignOut, i.SignOutRequest())
    async with node.database.admin() as connection:
        entries = await connection.fetch("SELECT * FROM identity.audit_entries WHERE resource = 'people/resident.01'")
    assert [(entry["action"], entry["actor"]) for entry in entries] == [
        ("identity.people.put", "people/node-admin"),
        ("identity.sessions.open", "anonymous"),
        ("identity.sessions.end", "people/resident.01"),
    ]
    assert not any(secret in str(dict(entry)) for entry in entries for secret in (resident.token, PASSWORD))


# ------------------------------------------------------------------------------------------------------ resolve access


async def resolve(node: Node, subject: str, session: str = "") -> i.ResolveAccessResponse:
    service = node.service("management")
    request = i.ResolveAccessRequest(subject=subject, session=session)
    response: i.ResolveAccessResponse = await service.call(service.identity.ResolveAccess, request)
    return response


async def test_other_services_learn_what_a_subject_may_do(node: Node) -> None:
    await node.grow()
    handler = await node.person("handler.pw", post("handler", "us-ca-sf-d10", "public-works"))
    session = jwt.decode(handler.token, options={"verify_signature": False})["sid"]
    found = await resolve(node, "people/handler.pw", session)
    assert found.active
    assert list(found.organisations) == ["organisations/public-works"]
    dispose = next(grant for grant in found.grants if grant.permission == "management.events.dispose")
    assert (dispose.scope, dispose.zone) == (d.SCOPE_ORGANISATION, "us-ca-sf-d10")
    assert (await resolve(node, "people/handler.pw")).grants == found.grants
    await handler.call(handler.identity.SignOut, i.SignOutRequest())
    ended = await resolve(node, "people/handler.pw", session)
    assert (ended.active, list(ended.grants)) == (False, [])


@pytest.mark.parametrize(
    ("subject", "session"),
    [
        ("people/nobody", ""), ("services/nobody", ""), ("nonsense", ""), ("anonymous", ""),
        ("people/node-admin", "not a session"), ("people/node-admin", "0199a9a0-0000-7000-8000-000000000000"),
    ],
)  # fmt: skip
async def test_who_is_not_known_may_nothing(node: Node, subject: str, session: str) -> None:
    found = await resolve(node, subject, session)
    assert (found.active, list(found.grants)) == (False, [])


async def test_a_session_is_its_own_subjects_only(node: Node) -> None:
    resident = await node.person("resident.01", post("resident"))
    session = jwt.decode(resident.token, options={"verify_signature": False})["sid"]
    assert (await resolve(node, "people/resident.01", session)).active
    assert not (await resolve(node, "people/node-admin", session)).active


async def test_services_hold_their_own_role_and_people_cannot_ask(node: Node) -> None:
    found = await resolve(node, "services/federation")
    assert {(grant.permission, grant.zone) for grant in found.grants} == {
        ("identity.access.resolve", ""), ("sharing.products.read", ""), ("sharing.terms.check", ""),
        ("sharing.rows.read_for_contract", ""), ("identity.audit.prove", ""), ("identity.people.read", ""),
        ("management.evidence.read_for_peer", ""),
    }  # fmt: skip
    admin = await node.admin()
    with pytest.raises(Forbidden) as raised:
        await admin.call(admin.identity.ResolveAccess, i.ResolveAccessRequest(subject="people/node-admin"))
    assert raised.value.reason == Reason.SERVICES_ONLY
    itself = node.service("identity")
    with pytest.raises(Forbidden):
        await itself.call(itself.identity.ResolveAccess, i.ResolveAccessRequest(subject="people/node-admin"))


async def test_a_right_taken_away_by_one_replica_is_gone_in_the_other(node: Node) -> None:
    officer = await node.person("officer", post("resident"))
    admin = await node.admin()
    await node.start()  # a second replica, which the clients made from now on call
    role = d.Role(
        name="roles/hotline",
        title=LocalText(en="Hotline"),
        grants=[d.RoleGrant(permission="delivery.requests.file", scope=d.SCOPE_ZONE)],
    )
    await admin.call(admin.directory.PutRole, d.PutRoleRequest(role=role))
    person = d.Person(name="people/officer", login="officer", posts=[post("hotline")])
    await admin.call(admin.directory.PutPerson, d.PutPersonRequest(person=person))
    over_there = node.client(officer.token)
    assert [grant.scope for grant in (await profile(over_there)).grants] == [d.SCOPE_ZONE]


# ---------------------------------------------------------------------------------------------------------------- keys


async def test_keys_rotate_without_refusing_anybody(node: Node) -> None:
    resident = await node.person("resident.01", post("resident"))
    first = (await jwks(node))[0].kid
    SigningKeys(node.config.secrets, node.clock).rotate()
    published = [key.kid for key in await jwks(node)]
    assert published[0] == first
    assert len(published) == 2
    kid = jwt.get_unverified_header((await node.sign_in("resident.01")).token)["kid"]
    assert kid == first
    node.clock.advance(timedelta(seconds=KEY_LEAD_S))
    signed = jwt.get_unverified_header((await refresh(node, resident.refresh_token)).access_token)["kid"]
    assert signed == published[1]
    assert (await profile(resident)).subject == "people/resident.01"
