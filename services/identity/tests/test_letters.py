"""The dead letters of all services, listed, tried again and dropped by people."""

from pathlib import Path
from uuid import UUID

import pytest

from libs import inbox_store
from libs.errors import Forbidden, Invalid, NotFound
from libs.host import Host, Part, Running, Wired
from libs.ids import new_id
from libs.inbox_store import Taken
from libs.tx import Tx
from quintet.identity.v1 import identity_pb2 as i

from .conftest import Client, Node, post


async def nothing(_host: Host) -> Wired:
    return Wired(servicers=[])


async def part_with_letters(node: Node, tmp_path: Path, name: str, count: int) -> tuple[Running, list[str]]:
    """Start a part that has given up some facts; return it and their ids."""
    (tmp_path / "none").mkdir(exist_ok=True)
    running = await node.run(Part(name, tmp_path / "none", nothing))
    facts = [new_id() for _ in range(count)]

    async def work(tx: Tx) -> None:
        for fact in facts:
            taken = Taken(UUID(fact), "quintet.management.v1.EventOpened", "zones/us-ca-sf/events/1", b"\x0a\x00")
            await inbox_store.bury(tx.conn, taken, attempts=5, error="ValueError('no such thing')")

    await running.host.transactions.run(work)
    return running, facts


async def listed(client: Client, **fields: object) -> i.ListDeadLettersResponse:
    request = i.ListDeadLettersRequest(**fields)  # type: ignore[arg-type]
    response: i.ListDeadLettersResponse = await client.call(client.identity.ListDeadLetters, request)
    return response


async def test_they_are_found_in_one_place(node: Node, tmp_path: Path) -> None:
    _, sharing = await part_with_letters(node, tmp_path, "sharing", 2)
    _, management = await part_with_letters(node, tmp_path, "management", 3)
    for part in ("perception", "collaboration", "delivery", "federation"):
        await part_with_letters(node, tmp_path, part, 0)
    auditor = await node.person("auditor.1", post("auditor"))
    seen: list[tuple[str, str]] = []
    token = ""
    while True:
        page = await listed(auditor, page_size=2, page_token=token)
        assert len(page.letters) <= 2
        seen += [(letter.part, letter.fact) for letter in page.letters]
        if not (token := page.next_page_token):
            break
    assert seen == [("management", fact) for fact in management] + [("sharing", fact) for fact in sharing]
    letter = (await listed(auditor, part="sharing")).letters[0]
    assert (letter.type, letter.key) == ("quintet.management.v1.EventOpened", "zones/us-ca-sf/events/1")
    assert (letter.attempts, letter.error, letter.size) == (5, "ValueError('no such thing')", 2)
    with pytest.raises(Invalid):
        await listed(auditor, part="nobody")


async def test_an_administrator_ends_them(node: Node, tmp_path: Path) -> None:
    running, (again, dropped) = await part_with_letters(node, tmp_path, "management", 2)
    admin = await node.admin()
    retry = i.RetryDeadLetterRequest(name=f"parts/management/deadLetters/{again}")
    await admin.call(admin.identity.RetryDeadLetter, retry)
    discard = i.DiscardDeadLetterRequest(name=f"parts/management/deadLetters/{dropped}", reason="of a test")
    await admin.call(admin.identity.DiscardDeadLetter, discard)

    transactions = running.host.transactions
    query = "SELECT action, detail::jsonb ->> 'person' AS person FROM audit_entries ORDER BY id"
    entries = [tuple(row) for row in await transactions.read(lambda conn: conn.fetch(query))]
    assert entries == [("deadletters.retry", "people/node-admin"), ("deadletters.discard", "people/node-admin")]
    assert not (await listed(admin, part="management")).letters
    for unknown in (f"parts/management/deadLetters/{again}", f"parts/nobody/deadLetters/{again}"):
        with pytest.raises(NotFound):
            await admin.call(admin.identity.RetryDeadLetter, i.RetryDeadLetterRequest(name=unknown))


async def test_who_may_only_look_ends_nothing(node: Node, tmp_path: Path) -> None:
    _, (fact,) = await part_with_letters(node, tmp_path, "management", 1)
    auditor = await node.person("auditor.1", post("auditor"))
    request = i.RetryDeadLetterRequest(name=f"parts/management/deadLetters/{fact}")
    with pytest.raises(Forbidden):
        await auditor.call(auditor.identity.RetryDeadLetter, request)
    resident = await node.person("resident.01", post("resident"))
    with pytest.raises(Forbidden):
        await listed(resident)
