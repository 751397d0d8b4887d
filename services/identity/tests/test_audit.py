"""The audit query over the logs of all services."""

import json
from pathlib import Path

import pytest

from libs import merkle
from libs.config import PARTS
from libs.errors import Away, Forbidden, Invalid
from libs.host import Host, Part, Wired
from libs.testing import eventually
from libs.tx import Tx
from quintet.identity.v1 import identity_pb2 as i

from .conftest import Client, Node, post


async def nothing(_host: Host) -> Wired:
    return Wired(servicers=[])


async def others(node: Node, tmp_path: Path, *, without: str = "") -> None:
    """Start every other part, as far as it keeps an audit log, with entries of its own."""
    (tmp_path / "none").mkdir()
    for name in PARTS:
        if name in ("identity", without):
            continue
        running = await node.run(Part(name, tmp_path / "none", nothing))

        async def work(tx: Tx, name: str = name) -> None:
            for n in range(3):
                tx.audit(f"{name}.things.put", f"things/{n}", n=n)

        await running.host.transactions.run(work)


async def query(client: Client, **fields: object) -> i.QueryAuditResponse:
    request = i.QueryAuditRequest(**fields)  # type: ignore[arg-type]
    response: i.QueryAuditResponse = await client.call(client.identity.QueryAudit, request)
    return response


async def verify(client: Client) -> i.VerifyAuditResponse:
    response: i.VerifyAuditResponse = await client.call(client.identity.VerifyAudit, i.VerifyAuditRequest())
    return response


async def test_entries_of_all_services_are_read_together(node: Node, tmp_path: Path) -> None:
    await others(node, tmp_path)
    auditor = await node.person("auditor.1", post("auditor"))

    async def sealed() -> bool:
        return all(log.entries and not log.unsealed for log in (await verify(auditor)).logs)

    await eventually(sealed)
    seen: list[tuple[str, int]] = []
    token = ""
    while True:
        page = await query(auditor, page_size=4, page_token=token)
        assert len(page.entries) <= 4
        seen += [(entry.part, entry.sequence) for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(set(seen))
    assert {part for part, _ in seen} == set(PARTS)
    whole = await query(auditor, page_size=1000)
    assert [(entry.part, entry.sequence) for entry in whole.entries] == seen
    assert whole.next_page_token == ""
    of_one = await query(auditor, part="management")
    assert [entry.action for entry in of_one.entries] == ["management.things.put"] * 3
    by_resource = await query(auditor, resource="things/1")
    assert {entry.part for entry in by_resource.entries} == set(PARTS) - {"identity"}
    by_actor = await query(auditor, actor="people/node-admin")
    assert [entry.action for entry in by_actor.entries] == ["identity.people.put"]

    checked = await verify(auditor)
    assert checked.verified
    assert [log.part for log in checked.logs] == sorted(PARTS)
    assert checked.entries == len(seen) == sum(log.entries for log in checked.logs)

    async with node.database.admin() as connection:
        await connection.execute("ALTER TABLE delivery.audit_entries DISABLE TRIGGER USER")
        await connection.execute("UPDATE delivery.audit_entries SET actor = 'people/x' WHERE sequence = 2")
    tampered = await verify(auditor)
    assert not tampered.verified
    assert [log.part for log in tampered.logs if not log.verified] == ["delivery"]


async def test_a_service_that_is_away_is_named(node: Node, tmp_path: Path) -> None:
    await others(node, tmp_path, without="perception")
    auditor = await node.person("auditor.1", post("auditor"))
    for call in (query(auditor), query(auditor, part="perception"), verify(auditor)):
        with pytest.raises(Away) as raised:
            await call
        assert "perception" in raised.value.message
        assert raised.value.metadata["dependency"] == "perception"
    assert (await query(auditor, part="delivery")).next_page_token == ""


async def test_who_may_read_the_logs(node: Node) -> None:
    await node.grow()
    # Logs are of the whole node: an auditor of a district does not read them.
    for name, role, zone in (("resident.01", "resident", "us-ca-sf"), ("auditor.d10", "auditor", "us-ca-sf-d10")):
        person = await node.person(name, post(role, zone))
        with pytest.raises(Forbidden):
            await query(person)
        with pytest.raises(Forbidden):
            await verify(person)
    admin = await node.admin()
    with pytest.raises(Invalid, match="part"):
        await query(admin, part="nobody")
    with pytest.raises(Invalid, match="pageToken"):
        await query(admin, part="identity", page_token="x")


async def test_what_is_proven_of_a_log_can_be_checked_by_who_asked(node: Node, tmp_path: Path) -> None:
    await others(node, tmp_path)
    auditor = await node.person("auditor.1", post("auditor"))

    async def signed() -> i.GetAuditCheckpointResponse:
        request = i.GetAuditCheckpointRequest(part="delivery", at_once=True)
        found: i.GetAuditCheckpointResponse = await auditor.call(auditor.identity.GetAuditCheckpoint, request)
        return found

    async def all_signed() -> bool:
        return (await signed()).checkpoint.size == 3

    await eventually(all_signed)
    checkpoint = (await signed()).checkpoint
    listed = await auditor.call(auditor.identity.ListAuditCheckpoints, i.ListAuditCheckpointsRequest(part="delivery"))
    assert listed.checkpoints[-1] == checkpoint
    request = i.GetAuditInclusionProofRequest(part="delivery", sequence=2)
    shown = (await auditor.call(auditor.identity.GetAuditInclusionProof, request)).proof
    leaf = merkle.leaf_hash(shown.entry.hash)
    assert merkle.verify_inclusion(leaf, 1, 3, shown.proof, checkpoint.root)
    assert (shown.entry.resource, shown.checkpoint) == ("things/1", checkpoint)
    asked = i.GetAuditConsistencyProofRequest(part="delivery", first=1)
    grown = (await auditor.call(auditor.identity.GetAuditConsistencyProof, asked)).proof
    assert merkle.verify_consistency(1, 3, grown.first_root, checkpoint.root, grown.proof)


async def test_an_export_is_sealed_in_the_name_of_who_made_it(node: Node) -> None:
    auditor = await node.person("auditor.1", post("auditor"))
    request = i.SealAuditExportRequest(digest=bytes(32), lines=7)
    seal = json.loads((await auditor.call(auditor.identity.SealAuditExport, request)).seal)
    assert (seal["exported_by"], seal["lines"], seal["digest"]) == ("people/auditor.1", 7, bytes(32).hex())
    with pytest.raises(Invalid, match="digest"):
        await auditor.call(auditor.identity.SealAuditExport, i.SealAuditExportRequest(digest=b"short", lines=7))
    resident = await node.person("resident.01", post("resident"))
    for method, asked in (
        (resident.identity.SealAuditExport, request),
        (resident.identity.GetAuditCheckpoint, i.GetAuditCheckpointRequest(part="identity")),
        (resident.identity.ListAuditCheckpoints, i.ListAuditCheckpointsRequest(part="identity")),
    ):
        with pytest.raises(Forbidden):
            await resident.call(method, asked)
