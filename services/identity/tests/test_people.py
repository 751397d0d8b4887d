"""People, service accounts and roles through the running service: above all what nobody can give themselves."""

import hashlib

import pytest

from libs.errors import AlreadyExists, DomainError, Forbidden, Invalid, NotFound, Reason, Unauthenticated, WrongState
from libs.ids import new_id
from quintet.common.v1.common_pb2 import LocalText
from quintet.identity.v1 import directory_pb2 as d
from quintet.identity.v1 import identity_pb2 as i
from quintet.identity.v1.facts_pb2 import AccessChanged, PersonChanged

from .conftest import PASSWORD, Client, Node, post


async def put(client: Client, name: str, *posts: d.Post, password: str = "", **fields: object) -> d.PutPersonResponse:
    person = d.Person(name=f"people/{name}", login=name, posts=posts, **fields)  # type: ignore[arg-type]
    return await client.call(client.directory.PutPerson, d.PutPersonRequest(person=person, password=password))


async def put_role(client: Client, name: str, *grants: tuple[str, int], inherits: tuple[str, ...] = ()) -> bool:
    role = d.Role(
        name=f"roles/{name}",
        title=LocalText(en=name),
        grants=[d.RoleGrant(permission=p, scope=d.Scope.ValueType(s)) for p, s in grants],
        inherits=[f"roles/{each}" for each in inherits],
    )
    response: d.PutRoleResponse = await client.call(client.directory.PutRole, d.PutRoleRequest(role=role))
    return response.changed


async def grants_of(client: Client) -> set[tuple[str, int, str, str]]:
    profile = await client.call(client.identity.GetProfile, i.GetProfileRequest())
    return {(grant.permission, grant.scope, grant.zone, grant.organisation) for grant in profile.grants}


# -------------------------------------------------------------------------------------------------------------- people


async def test_a_person_is_put_once_and_stated_once_without_secrets(node: Node) -> None:
    await node.grow()
    admin = await node.admin()
    duty = post("duty_officer", "us-ca-sf-d10", "public-works")
    first = await put(admin, "duty-officer.d10", duty, password=PASSWORD)
    again = await put(admin, "duty-officer.d10", duty)
    once_more = await put(admin, "duty-officer.d10", duty, password=PASSWORD)
    assert (first.changed, again.changed, once_more.changed) == (True, False, True)
    stated = [fact for fact in await node.facts(PersonChanged) if fact.person.name == "people/duty-officer.d10"]
    assert [fact.person for fact in stated] == [first.person]
    assert PASSWORD.encode() not in b"".join(fact.SerializeToString() for fact in stated)
    assert [fact.subject for fact in await node.facts(AccessChanged)][1:] == ["people/duty-officer.d10"]


async def test_no_password_stands_anywhere_in_the_database(node: Node) -> None:
    admin = await node.admin()
    person = d.Person(name="people/resident.01", login="resident.01", posts=[post("resident")])
    request = d.PutPersonRequest(person=person, password=PASSWORD, request_id=new_id())
    await admin.call(admin.directory.PutPerson, request)
    async with node.database.admin() as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'identity'")
        for table in tables:
            for row in await connection.fetch(f"SELECT t::text AS row FROM identity.{table['tablename']} t"):
                assert PASSWORD not in row["row"]
                assert PASSWORD.encode().hex() not in row["row"]
        stored = await connection.fetchval("SELECT secret_hash FROM identity.accounts WHERE login = 'resident.01'")
        assert stored.startswith("$argon2id$")
        # Nor can it be guessed from the hash that the log of requests keeps.
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        assert digest not in {row[0] for row in await connection.fetch("SELECT request_hash FROM identity.request_log")}
    assert (await admin.call(admin.directory.PutPerson, request)).changed
    request.person.display_name = "Somebody else"
    with pytest.raises(AlreadyExists) as raised:
        await admin.call(admin.directory.PutPerson, request)
    assert raised.value.reason == Reason.REQUEST_ID_REUSED


@pytest.mark.parametrize(
    ("posts", "field"),
    [
        ([post("nobody")], "person.posts[0].role"),
        ([post("resident", "nowhere")], "person.posts[0].zone"),
        ([post("handler", "us-ca-sf", "nobody")], "person.posts[0].organisation"),
        ([post("resident"), post("resident")], "person.posts[1]"),
        ([post("service.identity")], "person.posts[0].role"),
    ],
)
async def test_posts_refer_to_what_is_there(node: Node, posts: list[d.Post], field: str) -> None:
    with pytest.raises(Invalid) as raised:
        await put(await node.admin(), "x.1", *posts)
    assert raised.value.violations[0][0] == field


async def test_logins_are_unique_and_passwords_long(node: Node) -> None:
    admin = await node.admin()
    await put(admin, "resident.01", post("resident"))
    taken = d.Person(name="people/other", login="resident.01")
    with pytest.raises(AlreadyExists) as raised:
        await admin.call(admin.directory.PutPerson, d.PutPersonRequest(person=taken))
    assert raised.value.reason == Reason.LOGIN_TAKEN
    with pytest.raises(Invalid) as weak:
        await put(admin, "resident.02", post("resident"), password="short")
    assert weak.value.violations == (("password", "must have at least 12 characters"),)


async def test_posts_give_rights_in_their_zone_and_organisation(node: Node) -> None:
    await node.grow()
    handler = await node.person("handler.pw", post("handler", "us-ca-sf-d10", "public-works"))
    held = await grants_of(handler)
    of_events = {each for each in held if each[0] == "management.events.dispose"}
    expected = ("management.events.dispose", d.SCOPE_ORGANISATION, "us-ca-sf-d10", "organisations/public-works")
    assert of_events == {expected}
    await put(await node.admin(), "handler.pw", post("resident"))
    assert {each[2] for each in await grants_of(handler)} == {"us-ca-sf"}
    assert not any(each[0].startswith("management.") for each in await grants_of(handler))


async def test_nobody_gives_a_post_that_exceeds_their_own_rights(node: Node) -> None:
    await node.grow()
    admin = await node.admin()
    rights = ("identity.people.write", d.SCOPE_ZONE), ("identity.people.read", d.SCOPE_ZONE)
    await put_role(admin, "helpdesk", *rights, inherits=("resident",))
    helper = await node.person("helpdesk.d10", post("helpdesk", "us-ca-sf-d10"))
    assert (await put(helper, "resident.01", post("resident", "us-ca-sf-d10"), password=PASSWORD)).changed
    assert (await put(helper, "helper.2", post("helpdesk", "us-ca-sf-d10-potrero-hill"))).changed

    async def refused(name: str, *posts: d.Post, **fields: object) -> str:
        with pytest.raises(Forbidden) as raised:
            await put(helper, name, *posts, **fields)  # type: ignore[arg-type]
        return raised.value.reason

    assert await refused("x.1", post("resident", "us-ca-sf")) == Reason.NOT_PERMITTED
    assert await refused("x.1", post("resident", "us-ca-sf-d6")) == Reason.NOT_PERMITTED
    assert await refused("x.1") == Reason.NOT_PERMITTED
    assert await refused("x.1", post("duty_officer", "us-ca-sf-d10")) == Reason.ROLE_EXCEEDS_OWN
    assert await refused("x.1", post("node_admin", "us-ca-sf-d10")) == Reason.ROLE_EXCEEDS_OWN
    assert await refused("helpdesk.d10", post("node_admin", "us-ca-sf-d10")) == Reason.ROLE_EXCEEDS_OWN
    # Nor by way of somebody who has more: not their password, not their posts.
    await put(admin, "duty-officer.d10", post("duty_officer", "us-ca-sf-d10"), password=PASSWORD)
    taken = await refused("duty-officer.d10", post("duty_officer", "us-ca-sf-d10"), password="my own password")
    assert taken == Reason.ROLE_EXCEEDS_OWN
    assert await refused("duty-officer.d10", post("resident", "us-ca-sf-d10")) == Reason.ROLE_EXCEEDS_OWN
    assert await refused("node-admin", password="my own password") == Reason.NOT_PERMITTED


async def test_a_node_administrator_of_a_district_gives_everything_there_and_nothing_elsewhere(node: Node) -> None:
    await node.grow()
    local = await node.person("admin.d10", post("node_admin", "us-ca-sf-d10"))
    for role in ("node_admin", "duty_officer", "auditor", "device_gateway", "data_steward"):
        assert (await put(local, f"{role}.1".replace("_", "-"), post(role, "us-ca-sf-d10-potrero-hill"))).changed
    with pytest.raises(Forbidden):
        await put(local, "x.1", post("resident", "us-ca-sf-d6"))


async def test_disabled_people_are_out_at_once(node: Node) -> None:
    admin = await node.admin()
    resident = await node.person("resident.01", post("resident"))
    await put(admin, "resident.01", post("resident"), disabled=True)
    with pytest.raises(Unauthenticated) as raised:
        await grants_of(resident)
    assert raised.value.reason == Reason.SESSION_ENDED
    with pytest.raises(Unauthenticated) as wrong:
        await node.sign_in("resident.01")
    assert wrong.value.reason == Reason.CREDENTIALS_WRONG
    await put(admin, "resident.01", post("resident"))
    with pytest.raises(Unauthenticated):  # what ended stays ended
        await grants_of(resident)
    await node.sign_in("resident.01")
    with pytest.raises(WrongState):
        await put(admin, "node-admin", post("node_admin"), disabled=True)


async def test_a_new_password_ends_the_sessions_and_the_same_one_does_not(node: Node) -> None:
    admin = await node.admin()
    resident = await node.person("resident.01", post("resident"))
    await put(admin, "resident.01", post("resident"), password=PASSWORD)
    await grants_of(resident)
    await put(admin, "resident.01", post("resident"), password="a new password 2")
    with pytest.raises(Unauthenticated):
        await grants_of(resident)
    with pytest.raises(Unauthenticated):
        await node.sign_in("resident.01")
    await node.sign_in("resident.01", "a new password 2")


async def test_people_are_listed_to_who_may_see_their_posts(node: Node) -> None:
    await node.grow()
    await node.person("resident.06", post("resident", "us-ca-sf-d6"))
    await node.person("resident.10", post("resident", "us-ca-sf-d10"))
    auditor = await node.person("auditor.d10", post("auditor", "us-ca-sf-d10"))

    async def listed(client: Client) -> list[str]:
        names: list[str] = []
        token = ""
        while True:
            request = d.ListPeopleRequest(page_size=2, page_token=token)
            page = await client.call(client.directory.ListPeople, request)
            names += [person.name.removeprefix("people/") for person in page.people]
            token = page.next_page_token
            if not token:
                return names

    assert await listed(auditor) == ["auditor.d10", "resident.10"]
    assert await listed(await node.admin()) == ["auditor.d10", "node-admin", "resident.06", "resident.10"]
    found = await auditor.call(auditor.directory.GetPerson, d.GetPersonRequest(name="people/resident.10"))
    assert found.person.login == "resident.10"
    errors = []
    for name in ("people/resident.06", "people/nobody"):
        with pytest.raises(NotFound) as raised:
            await auditor.call(auditor.directory.GetPerson, d.GetPersonRequest(name=name))
        errors.append(raised.value.message.replace(name, ""))
    assert errors[0] == errors[1]
    resident = await node.sign_in("resident.06")
    with pytest.raises(Forbidden):
        await resident.call(resident.directory.ListPeople, d.ListPeopleRequest())


# ---------------------------------------------------------------------------------------------------- service accounts


async def put_account(client: Client, *, rotate: bool = False, request_id: str = "") -> d.PutServiceAccountResponse:
    account = d.ServiceAccount(
        name="serviceAccounts/air-gateway", title=LocalText(en="Air"), posts=[post("device_gateway")]
    )
    request = d.PutServiceAccountRequest(service_account=account, rotate_secret=rotate, request_id=request_id)
    return await client.call(client.directory.PutServiceAccount, request)


async def test_a_program_gets_its_secret_once_and_signs_in_with_it(node: Node) -> None:
    admin = await node.admin()
    request_id = new_id()
    made = await put_account(admin, request_id=request_id)
    assert made.changed
    assert made.secret
    program = await node.sign_in("serviceAccounts/air-gateway", made.secret)
    assert program.subject == "serviceAccounts/air-gateway"
    held = {each[0] for each in await grants_of(program)}
    assert held == {"perception.devices.read", "perception.readings.write"}
    again = await put_account(admin)
    assert (again.changed, again.secret) == (False, "")
    rotated = await put_account(admin, rotate=True)
    assert rotated.secret not in ("", made.secret)
    with pytest.raises(Unauthenticated):
        await grants_of(program)
    with pytest.raises(Unauthenticated):
        await node.sign_in("serviceAccounts/air-gateway", made.secret)
    await node.sign_in("serviceAccounts/air-gateway", rotated.secret)
    async with node.database.admin() as connection:
        answers = await connection.fetch("SELECT response FROM identity.request_log")
    assert not any(secret.encode() in row["response"] for row in answers for secret in (made.secret, rotated.secret))


async def test_a_repeated_request_for_a_secret_gets_the_answer_without_it(node: Node) -> None:
    admin = await node.admin()
    request_id = new_id()
    made = await put_account(admin, rotate=True, request_id=request_id)
    repeated = await put_account(admin, rotate=True, request_id=request_id)
    assert repeated.secret == ""
    assert repeated.changed
    await node.sign_in("serviceAccounts/air-gateway", made.secret)


async def test_a_program_is_not_given_more_than_who_makes_it_holds(node: Node) -> None:
    admin = await node.admin()
    await put_role(admin, "integrator", ("identity.service_accounts.write", d.SCOPE_ZONE))
    integrator = await node.person("integrator.1", post("integrator"))
    with pytest.raises(Forbidden) as raised:
        await put_account(integrator)
    assert raised.value.reason == Reason.ROLE_EXCEEDS_OWN


# --------------------------------------------------------------------------------------------------------------- roles


async def test_a_changed_role_changes_what_its_holders_may_do(node: Node) -> None:
    admin = await node.admin()
    assert await put_role(admin, "hotline", ("delivery.requests.file", d.SCOPE_ZONE))
    assert not await put_role(admin, "hotline", ("delivery.requests.file", d.SCOPE_ZONE))
    agent = await node.person("agent.1", post("hotline"))
    assert {each[0] for each in await grants_of(agent)} == {"delivery.requests.file"}
    assert await put_role(admin, "hotline", ("delivery.requests.read", d.SCOPE_ZONE), inherits=("verifier",))
    held = {each[0] for each in await grants_of(agent)}
    assert {"delivery.requests.read", "management.events.verify", "collaboration.directory.read"} <= held
    assert "delivery.requests.file" not in held
    assert [fact.subject for fact in await node.facts(AccessChanged)].count("") == 2


async def test_roles_are_refused_that_would_break_the_rest(node: Node) -> None:
    admin = await node.admin()

    async def refused(name: str, *grants: tuple[str, int], inherits: tuple[str, ...] = ()) -> DomainError:
        with pytest.raises(DomainError) as raised:
            await put_role(admin, name, *grants, inherits=inherits)
        return raised.value

    assert (await refused("node_admin")).reason == Reason.ROLE_BUILT_IN
    assert isinstance(await refused("service.mine"), Invalid)
    assert (await refused("mine", inherits=("nobody",))).reason == Reason.ROLE_NOT_FOUND
    assert (await refused("mine", inherits=("service.federation",))).reason == Reason.ROLE_NOT_FOUND
    assert (await refused("mine", inherits=("mine",))).reason == Reason.WRONG_STATE
    await put_role(admin, "mine")
    await put_role(admin, "yours", inherits=("mine",))
    assert (await refused("mine", inherits=("yours",))).reason == Reason.WRONG_STATE
    # Not even an administrator can hand out what is for services only, or what no method asks for.
    internal = await refused("mine", ("identity.access.resolve", d.SCOPE_ZONE))
    assert internal.reason == Reason.ROLE_EXCEEDS_OWN
    assert (await refused("mine", ("x.y.z", d.SCOPE_ZONE))).reason == Reason.ROLE_EXCEEDS_OWN


async def test_nobody_puts_into_a_role_what_they_do_not_hold(node: Node) -> None:
    await node.grow()
    admin = await node.admin()
    await put_role(
        admin, "role_keeper", ("identity.roles.write", d.SCOPE_ZONE), ("delivery.requests.read", d.SCOPE_OWN)
    )
    keeper = await node.person("keeper.1", post("role_keeper"))
    assert await put_role(keeper, "own_reader", ("delivery.requests.read", d.SCOPE_OWN))
    for grants, inherits in (
        ([("delivery.requests.read", d.SCOPE_ZONE)], ()),
        ([("delivery.requests.read", d.SCOPE_ORGANISATION)], ()),
        ([("delivery.requests.file", d.SCOPE_OWN)], ()),
        ([], ("verifier",)),
        ([("identity.people.write", d.SCOPE_ZONE)], ()),
    ):
        with pytest.raises(Forbidden) as raised:
            await put_role(keeper, "own_reader", *grants, inherits=inherits)
        assert raised.value.reason == Reason.ROLE_EXCEEDS_OWN
    local = await node.person("admin.d10", post("node_admin", "us-ca-sf-d10"))
    with pytest.raises(Forbidden):  # a role counts in the whole node
        await put_role(local, "local", ("delivery.requests.read", d.SCOPE_ZONE))


async def test_roles_are_listed_with_the_built_in_ones(node: Node) -> None:
    admin = await node.admin()
    await put_role(admin, "hotline", ("delivery.requests.file", d.SCOPE_ZONE))
    first = await admin.call(admin.directory.ListRoles, d.ListRolesRequest(page_size=10))
    rest = await admin.call(admin.directory.ListRoles, d.ListRolesRequest(page_token=first.next_page_token))
    roles = {role.name: role for role in (*first.roles, *rest.roles)}
    assert list(roles) == sorted(roles)
    assert len(roles) == len(first.roles) + len(rest.roles)
    assert not roles["roles/hotline"].built_in
    assert roles["roles/handler"].built_in
    assert roles["roles/handler"].title.zh == "处置人员"
    assert list(roles["roles/handler"].inherits) == ["roles/staff"]
