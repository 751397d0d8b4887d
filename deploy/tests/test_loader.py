"""A folder goes into a real node, and a second time changes nothing."""

from pathlib import Path

import pytest

from deploy.declared import DeclarationError
from deploy.loader import Loader, LoadReport, load
from deploy.testing import NodeProcess
from quintet_sdk import Client

# Names of our own: other tests share the node.
FILES = {
    "places.yaml": """
zones:
  - {id: loader-1, parent: ZONE, kind: district, title: {zh: 一区, en: One}}
organisations:
  - {id: loader.centre, title: {zh: 中心, en: Centre}, zone: loader-1}
""",
    "people.yaml": """
people:
  - {id: officer.l, login: officer.l, posts: [{role: duty_officer, zone: loader-1, organisation: loader.centre}]}
service_accounts:
  - {id: loader-gateway, posts: [{role: device_gateway, zone: loader-1, organisation: loader.centre}]}
""",
    "loop/short.yaml": """name: loops/loader-short
title: {zh: 短, en: Short}
initial: found
states: [found, done]
open_states: [found]
actions:
  - {action: do, title: {zh: 办, en: Do}, from: [found], to: done, permission: management.events.dispose}
""",
    "kinds.yaml": """
loops: [loop/short.yaml]
event_types:
  - {id: loader-smog, title: {zh: 雾霾, en: Smog}, deadline: {minutes: 9}, loop: loader-short,
     routes: [{zone: ZONE, organisation: loader.centre}]}
device_models:
  - {id: loader-station, indicators: [{code: pm25, unit: ug/m3, minimum: 0}]}
devices:
  - {id: loader-s1, zone: loader-1, model: loader-station, organisation: loader.centre}
rules:
  - {id: loader-r, zone: loader-1, indicator: pm25, comparison: above, raise_at: 2, clear_at: 1, level: iv}
indicators:
  - id: loader-opened
    title: {zh: 新增事件, en: Events opened}
    unit: {zh: 件, en: events}
    facts: [{type: quintet.management.v1.EventOpened, where: [{field: event.type, equals: eventTypes/loader-smog}]}]
    aggregation: count
    window_minutes: 60
follow_up_policies:
  - id: loader-smog
    title: {zh: 雾霾抽样回访, en: A sample of smog}
    types: [loader-smog]
    zones: [loader-1]
    share: 0.2
    tries: 3
    retry_hours: 24
service_items: {csv: items.csv}
""",
}
ITEMS = "department,main_item,name,item_code,task_type\n民政局,未分类,装载测试登记,LOADER-1,1\n"


@pytest.fixture
def folder(node: NodeProcess, tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("ZONE", node.config.node.zone))
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


async def load_once(node: NodeProcess, folder: Path, secrets: dict[str, str]) -> LoadReport:
    async with Client(node.url) as client:
        await client.sign_in("node-admin", node.password())
        loader = Loader(client, passwords=lambda _: "long enough to do", take_secret=secrets.__setitem__)
        return await loader.load(folder)


async def test_a_folder_is_loaded_once(node: NodeProcess, folder: Path) -> None:
    secrets: dict[str, str] = {}
    first = await load_once(node, folder, secrets)
    assert {section: tally.total for section, tally in first.sections.items()} == {
        "zones": 1,
        "organisations": 1,
        "people": 1,
        "service_accounts": 1,
        "loops": 1,
        "event_types": 1,
        "device_models": 1,
        "devices": 1,
        "rules": 1,
        "indicators": 1,
        "follow_up_policies": 1,
        "service_items": 1,
    }
    assert all(not tally.unchanged for tally in first.sections.values())
    assert list(secrets) == ["serviceAccounts/loader-gateway"]
    async with Client(node.url) as client:
        assert await client.sign_in("officer.l", "long enough to do") == "people/officer.l"

    again = await load_once(node, folder, secrets)
    assert all(tally.unchanged == tally.total for tally in again.sections.values()), str(again)

    (folder / "places.yaml").write_text((folder / "places.yaml").read_text().replace("en: One", "en: First"))
    changed = await load_once(node, folder, secrets)
    assert (changed.sections["zones"].changed, changed.sections["organisations"].unchanged) == (1, 1)


async def test_what_the_node_refuses_is_named_with_file_entry_and_field(node: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("event_types:\n  - {id: loader-bad, deadline: {minutes: 0}}\n")
    with pytest.raises(DeclarationError) as caught:
        await load_once(node, tmp_path, {})
    assert caught.value.file.name == "bad.yaml"
    assert caught.value.where.startswith("event_types eventTypes/loader-bad")
    assert "deadline" in caught.value.where
    assert caught.value.line == 2

    (tmp_path / "loop.yml").write_text(FILES["loop/short.yaml"].replace("to: done", "to: gone"))
    (tmp_path / "bad.yaml").write_text("loops: [loop.yml]\n")
    with pytest.raises(DeclarationError) as caught:
        await load_once(node, tmp_path, {})
    assert caught.value.file.name == "loop.yml"
    assert "line 7: actions[0].to: 'gone' is not one of the states" in caught.value.problem


def test_the_command_prints_what_became_of_the_folder(
    node: NodeProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.yaml").write_text("organisations:\n  - {id: loader.other, zone: us-ca-sf}\n")
    assert load(node.url, "node-admin", node.password(), tmp_path) == 0
    assert capsys.readouterr().out == "organisations: 1 created, 0 changed, 0 unchanged\n"
    (tmp_path / "one.yaml").write_text("organisation: []\n")
    assert load(node.url, "node-admin", node.password(), tmp_path) == 1
    assert "organisation: is not a known section" in capsys.readouterr().err
