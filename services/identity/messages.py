"""Protobuf on one side, the model on the other."""

from collections.abc import Iterable

from libs import names
from libs.access import Grant, Scope
from quintet.common.v1.common_pb2 import LocalText
from quintet.identity.v1 import directory_pb2, identity_pb2
from services.identity.model import (
    ROLES,
    ZONES,
    Account,
    Organisation,
    Post,
    Role,
    RoleGrant,
    Text,
    Zone,
)
from services.identity.policy import grant_order

_SCOPES = {
    Scope.ZONE: directory_pb2.SCOPE_ZONE,
    Scope.ORGANISATION: directory_pb2.SCOPE_ORGANISATION,
    Scope.OWN: directory_pb2.SCOPE_OWN,
}
_SCOPES_BACK = {number: scope for scope, number in _SCOPES.items()}


def text_of(message: LocalText) -> Text:
    return Text(message.zh, message.en)


def text_message(text: Text) -> LocalText:
    return LocalText(zh=text.zh, en=text.en)


# --------------------------------------------------------------------------------------------------------------- zones


def zone_of(message: directory_pb2.Zone) -> Zone:
    """Return the zone of a request: what federation and the tree decide is left open."""
    return Zone(
        code=message.name.removeprefix(ZONES),
        parent=message.parent.removeprefix(ZONES),
        kind=message.kind,
        title=text_of(message.title),
        aliases=tuple(message.aliases),
        boundary=message.boundary,
    )


def zone_message(zone: Zone) -> directory_pb2.Zone:
    return directory_pb2.Zone(
        name=zone.name,
        parent=f"{ZONES}{zone.parent}" if zone.parent else "",
        kind=directory_pb2.ZoneKind.ValueType(zone.kind),
        title=text_message(zone.title),
        aliases=zone.aliases,
        boundary=zone.boundary,
        delegated_to=zone.delegated_to,
    )


def organisation_of(message: directory_pb2.Organisation) -> Organisation:
    return Organisation(message.name, text_of(message.title), message.zone, message.parent)


def organisation_message(organisation: Organisation) -> directory_pb2.Organisation:
    return directory_pb2.Organisation(
        name=organisation.name,
        title=text_message(organisation.title),
        zone=organisation.zone,
        parent=organisation.parent,
    )


# ------------------------------------------------------------------------------------------------------------ accounts


def post_of(message: directory_pb2.Post) -> Post:
    return Post(message.role.removeprefix(ROLES), message.zone, message.organisation, text_of(message.title))


def _post_message(post: Post) -> directory_pb2.Post:
    return directory_pb2.Post(
        role=f"{ROLES}{post.role}", zone=post.zone, organisation=post.organisation, title=text_message(post.title)
    )


def person_of(message: directory_pb2.Person) -> Account:
    return Account(
        name=message.name,
        login=message.login,
        display_name=message.display_name,
        posts=tuple(post_of(post) for post in message.posts),
        disabled=message.disabled,
    )


def person_message(account: Account) -> directory_pb2.Person:
    return directory_pb2.Person(
        name=account.name,
        login=account.login,
        display_name=account.display_name,
        posts=[_post_message(post) for post in account.posts],
        disabled=account.disabled,
    )


def service_account_of(message: directory_pb2.ServiceAccount) -> Account:
    return Account(
        name=message.name,
        login=message.name,
        title=text_of(message.title),
        posts=tuple(post_of(post) for post in message.posts),
        disabled=message.disabled,
    )


def service_account_message(account: Account) -> directory_pb2.ServiceAccount:
    return directory_pb2.ServiceAccount(
        name=account.name,
        title=text_message(account.title),
        posts=[_post_message(post) for post in account.posts],
        disabled=account.disabled,
    )


# --------------------------------------------------------------------------------------------------------------- roles


def role_of(message: directory_pb2.Role) -> Role:
    """Return the role of a request; a grant or an inherited role that stands there twice counts once."""
    id_ = names.parse(message.name, "roles/{role}", field="role.name")["role"]
    grants = {RoleGrant(grant.permission, _SCOPES_BACK[grant.scope]) for grant in message.grants}
    inherits = {name.removeprefix(ROLES) for name in message.inherits}
    return Role(id_, text_of(message.title), tuple(sorted(grants, key=grant_order)), tuple(sorted(inherits)))


def role_message(role: Role) -> directory_pb2.Role:
    return directory_pb2.Role(
        name=role.name,
        title=text_message(role.title),
        grants=[
            directory_pb2.RoleGrant(permission=grant.permission, scope=_SCOPES[grant.scope]) for grant in role.grants
        ],
        inherits=[f"{ROLES}{id_}" for id_ in role.inherits],
        built_in=role.built_in,
    )


def grant_messages(grants: Iterable[Grant]) -> list[identity_pb2.Grant]:
    return [
        identity_pb2.Grant(
            permission=grant.permission,
            scope=_SCOPES[grant.scope],
            zone=grant.zone,
            organisation=grant.organisation,
        )
        for grant in grants
    ]
