"""The built-in roles, and that grants say exactly what Casbin says."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from google.protobuf.descriptor_pool import Default

from libs.access import Grant, Grants, Scope
from libs.methods import access_of
from libs.zones import ZoneRecord, ZoneTree
from quintet.audit.v1 import audit_pb2
from quintet.collaboration.v1 import collaboration_pb2, notices_pb2
from quintet.deadletter.v1 import deadletter_pb2
from quintet.delivery.v1 import delivery_pb2
from quintet.federation.v1 import federation_pb2, link_pb2
from quintet.identity.v1 import directory_pb2, identity_pb2
from quintet.management.v1 import (
    analysis_pb2,
    calendars_pb2,
    cases_pb2,
    catalogue_pb2,
    channels_pb2,
    deadlines_pb2,
    evidence_pb2,
    exceptions_pb2,
    follow_ups_pb2,
    handovers_pb2,
    imports_pb2,
    indicators_pb2,
    loops_pb2,
    management_pb2,
    merging_pb2,
    plans_pb2,
    reports_pb2,
    routing_pb2,
    scorecards_pb2,
    tiers_pb2,
    visits_pb2,
    warnings_pb2,
    whistles_pb2,
    worklists_pb2,
)
from quintet.options.v1.options_pb2 import Access
from quintet.perception.v1 import perception_pb2
from quintet.sharing.v1 import sharing_pb2
from services.identity.model import Post, Role, RoleGrant, Text
from services.identity.policy import POLICY_FILE, Policy

FILES = [
    audit_pb2, collaboration_pb2, notices_pb2, deadletter_pb2, delivery_pb2, federation_pb2, link_pb2,
    directory_pb2, identity_pb2,
    analysis_pb2,
    calendars_pb2,
    catalogue_pb2,
    cases_pb2,
    channels_pb2,
    deadlines_pb2,
    evidence_pb2,
    exceptions_pb2,
    handovers_pb2,
    follow_ups_pb2,
    imports_pb2,
    indicators_pb2,
    loops_pb2,
    management_pb2,
    merging_pb2,
    plans_pb2,
    routing_pb2,
    reports_pb2,
    scorecards_pb2,
    tiers_pb2,
    visits_pb2,
    warnings_pb2,
    whistles_pb2,
    worklists_pb2,
    perception_pb2, sharing_pb2,
]  # fmt: skip
SERVICES = Path(__file__).parents[2]


def accesses() -> Iterator[Access]:
    for file in FILES:
        for service in Default().FindFileByName(file.DESCRIPTOR.name).services_by_name.values():
            for method in service.methods:
                access = access_of(method)
                assert access is not None, method.full_name
                yield access


def of_methods(*, internal: bool) -> set[str]:
    return {access.permission for access in accesses() if access.permission and access.internal == internal}


def of_loops() -> set[str]:
    """The permissions of the actions of management's loops."""
    files = sorted((SERVICES / "management" / "loops").glob("*.yaml"))
    return {action["permission"] for file in files for action in yaml.safe_load(file.read_text())["actions"]}


def in_code() -> set[str]:
    """The permissions that services ask for by themselves, beside what their methods declare."""
    constant = re.compile(r'\b(?:READ|WRITE|QUERY)[A-Z_]* = "([a-z]+\.[a-z_]+\.[a-z_]+)"')
    asked = re.compile(r'\.(?:require|allows|visibility|holds)\(\s*"([a-z]+\.[a-z_]+\.[a-z_]+)"')
    files = [file for file in SERVICES.rglob("*.py") if "tests" not in file.parts]
    return {name for file in files for pattern in (constant, asked) for name in pattern.findall(file.read_text())}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy()


def permissions(policy: Policy, role: str) -> set[str]:
    return {grant.permission for grant in policy.role_grants(role, "z")}


# ------------------------------------------------------------------------------------------------------------- coverage


def test_every_permission_that_is_asked_for_is_given_to_somebody(policy: Policy) -> None:
    given = {grant.permission for role in policy.roles.values() for grant in role.grants}
    asked = of_methods(internal=False) | of_methods(internal=True) | of_loops() | in_code()
    assert asked - given == set()


def test_no_permission_is_given_that_nobody_asks_for(policy: Policy) -> None:
    given = {grant.permission for role in policy.roles.values() for grant in role.grants}
    assert given - (of_methods(internal=False) | of_methods(internal=True) | of_loops() | in_code()) == set()


def test_the_node_administrator_has_all_that_is_not_for_services_only(policy: Policy) -> None:
    everything = of_methods(internal=False) | of_loops() | in_code()
    held = {(grant.permission, grant.scope) for grant in policy.role_grants("node_admin", "z")}
    assert held == {(permission, Scope.ZONE) for permission in everything - of_methods(internal=True)}


def test_what_is_for_services_only_is_given_to_services_only(policy: Policy) -> None:
    internal = of_methods(internal=True)
    for role in policy.roles.values():
        if not role.of_service:
            assert permissions(policy, role.id).isdisjoint(internal), role.id


def test_every_role_of_the_file_has_a_title_and_inherits_only_what_is_there(policy: Policy) -> None:
    for role in policy.roles.values():
        assert role.built_in
        assert role.title.zh, role.id
        assert role.title.en, role.id
        assert role.grants or role.inherits, role.id
        assert set(role.inherits) <= set(policy.roles)


def test_the_policy_file_says_nothing_twice() -> None:
    lines = [line for line in POLICY_FILE.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(set(lines))


# ---------------------------------------------------------------------------------------------------------------- roles


def test_a_resident_reaches_only_what_is_their_own(policy: Policy) -> None:
    own = [grant for grant in policy.role_grants("resident", "z") if grant.scope is not Scope.OWN]
    assert own == [Grant("perception.warnings.read", Scope.ZONE, "z")]


def test_a_handler_reaches_only_their_organisations_events(policy: Policy) -> None:
    grants = policy.grants([Post("handler", "z", "organisations/a")])
    of_events = [grant for grant in grants if grant.permission.startswith("management.")]
    assert of_events
    assert all(g.scope is Scope.ORGANISATION and g.organisation == "organisations/a" for g in of_events)


@pytest.mark.parametrize(
    ("role", "action"),
    [
        ("duty_officer", "file"), ("dispatcher", "dispatch"), ("handler", "dispose"), ("verifier", "verify"),
        ("supervisor", "evaluate"),
    ],
)  # fmt: skip
def test_no_officer_walks_the_loop_alone(policy: Policy, role: str, action: str) -> None:
    steps = {"file", "dispatch", "dispose", "verify", "evaluate"}
    assert permissions(policy, role) & {f"management.events.{step}" for step in steps} == {
        f"management.events.{action}"
    }


def test_services_hold_what_they_call(policy: Policy) -> None:
    def held(part: str) -> set[str]:
        grants = policy.service_grants(part)
        assert grants is not None
        assert all(grant.zone == "" and grant.scope is Scope.ZONE for grant in grants)
        return {grant.permission for grant in grants}

    for part in ("perception", "sharing", "collaboration", "delivery"):
        assert held(part) == {"identity.access.resolve"}
    assert held("management") == {
        "identity.access.resolve", "identity.people.read", "federation.event_evidence.fetch",
    }  # fmt: skip
    assert held("identity") == {"identity.audit.read", "identity.audit.prove", "identity.dead_letters.collect"}
    assert held("gateway") == {"federation.peers.read", "federation.contracts.read", "management.counters.read"}
    assert held("federation") == {
        "identity.access.resolve", "sharing.products.read", "sharing.terms.check", "sharing.rows.read_for_contract",
        "identity.audit.prove", "identity.people.read", "management.evidence.read_for_peer",
    }  # fmt: skip
    assert policy.service_grants("nobody") is None


def test_own_roles_inherit_built_in_ones() -> None:
    grants = (RoleGrant("delivery.requests.read", Scope.ZONE),)
    policy = Policy([Role("helpdesk", Text("热线"), grants, ("verifier",)), Role("lead", Text(), (), ("helpdesk",))])
    assert permissions(policy, "lead") == permissions(policy, "verifier") | {"delivery.requests.read"}
    assert permissions(policy, "verifier") == permissions(Policy(), "verifier")


def test_resolving_leaves_nothing_behind(policy: Policy) -> None:
    before = policy.enforcer.get_grouping_policy()
    policy.grants([Post("handler", "somewhere", "organisations/x")])
    assert policy.enforcer.get_grouping_policy() == before
    assert policy.enforcer.get_role_manager().rm_map == {}


# ------------------------------------------------------------------------------------------------ grants against Casbin

TREE = ZoneTree(
    [
        ZoneRecord("city"), ZoneRecord("d6", "city"), ZoneRecord("d10", "city"), ZoneRecord("ph", "d10"),
        ZoneRecord("block", "ph"), ZoneRecord("elsewhere"),
    ],
    root="city",
)  # fmt: skip
ZONES = ["city", "d6", "d10", "ph", "block", "elsewhere"]
ORGANISATIONS = ["", "organisations/a", "organisations/b"]


def covering(asked: str, held: str) -> bool:
    """Casbin's view of domains: a post counts in its zone and below, and in the node's own zone everywhere."""
    if held == "*":
        return True
    zone, _, organisation = asked.partition("|")
    post_zone, _, post_organisation = held.partition("|")
    in_zone = post_zone == TREE.root or TREE.covers(post_zone, zone)
    return in_zone and organisation in ("*", post_organisation)


@pytest.mark.parametrize("seed", range(12))
def test_grants_decide_as_casbin_does(seed: int) -> None:
    chance = random.Random(seed)
    own_role = Role(
        "own",
        Text(),
        (RoleGrant("management.events.read", Scope.OWN), RoleGrant("delivery.requests.read", Scope.ORGANISATION)),
        (chance.choice(["handler", "verifier", "resident"]),),
    )
    policy = Policy([own_role])
    roles = [role.id for role in policy.roles.values() if not role.of_service]
    posts = [
        Post(chance.choice(roles), chance.choice(ZONES), chance.choice(ORGANISATIONS))
        for _ in range(chance.randint(1, 4))
    ]
    grants = Grants("people/1", policy.grants(posts), lambda: TREE)
    oracle = Policy([own_role]).enforcer
    for post in {post.key: post for post in posts}.values():
        oracle.add_grouping_policy("people/1", post.role, f"{post.zone}|{post.organisation}")
    oracle.add_named_domain_matching_func("g", covering)
    held = sorted({grant.permission for grant in grants})
    names = [*chance.sample(held, min(6, len(held))), "management.events.read", "delivery.requests.read", "x.y.z"]
    allowed = 0
    for permission in names:
        for zone in ZONES:
            for organisation in ORGANISATIONS:
                for owner in ("", "people/1", "people/2"):
                    ours = grants.allows(permission, zone, organisation, owner)
                    assert ours == oracle.enforce("people/1", permission, zone, organisation, owner), (
                        posts, permission, zone, organisation, owner,
                    )  # fmt: skip
                    allowed += ours
    assert allowed
