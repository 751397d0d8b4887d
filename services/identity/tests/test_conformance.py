"""What holds for every method: closed without the permission, and no input makes it fail."""

from libs import conformance
from quintet.audit.v1 import audit_pb2
from quintet.deadletter.v1 import deadletter_pb2
from quintet.identity.v1 import directory_pb2, identity_pb2

from .conftest import Node, post

SERVICES = [
    directory_pb2.DESCRIPTOR.services_by_name["DirectoryService"],
    identity_pb2.DESCRIPTOR.services_by_name["IdentityService"],
    audit_pb2.DESCRIPTOR.services_by_name["AuditService"],
    deadletter_pb2.DESCRIPTOR.services_by_name["DeadLetterService"],
]
KNOWN = {
    "name": [
        "zones/us-ca-sf-d10", "zones/us-ca-sf-d6", "organisations/parks", "people/resident.01", "roles/hotline",
        "roles/handler", "serviceAccounts/x",
    ],
    "parent": ["zones/us-ca-sf", "zones/us-ca-sf-d10", "organisations/parks"],
    "zone": ["us-ca-sf", "us-ca-sf-d10"],
    "role": ["roles/resident", "roles/handler", "roles/hotline"],
    "organisation": ["organisations/parks", "organisations/public-works"],
    "inherits": ["roles/resident", "roles/hotline"],
    "permission": ["management.events.read"],
    "login": ["resident.01", "somebody"],
    "password": ["correct horse battery"],
    "subject": ["people/resident.01", "services/management"],
    "part": ["identity"],
    "boundary": ['{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}'],
}  # fmt: skip


async def test_methods_are_closed_to_who_lacks_the_permission(node: Node) -> None:
    assert node.identity
    admin = await node.admin()
    person = directory_pb2.Person(name="people/nobody", login="nobody")
    await admin.call(
        admin.directory.PutPerson, directory_pb2.PutPersonRequest(person=person, password="correct horse battery")
    )
    nobody = await node.sign_in("nobody")
    address = node.identity.address
    assert await conformance.open_without_permission(address, SERVICES, nobody=nobody.token) == []
    assert await conformance.closed_to_people(address, SERVICES, everything=admin.token) == []


async def test_no_input_makes_a_method_fail(node: Node) -> None:
    assert node.identity
    await node.grow()
    admin = await node.admin()
    await node.person("resident.01", post("resident"))
    faults = await conformance.broken_by_bad_input(
        node.identity.address,
        SERVICES,
        token=admin.token,
        known=KNOWN,
        skip=["/quintet.identity.v1.IdentityService/SignOut"],
    )
    assert faults == []


async def test_no_input_of_a_service_makes_an_internal_method_fail(node: Node) -> None:
    assert node.identity
    for part in ("management", "identity"):
        service = node.service(part)
        faults = await conformance.broken_by_bad_input(
            node.identity.address, SERVICES[1:], token=service.token, known=KNOWN
        )
        assert faults == []
