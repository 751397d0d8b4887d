"""The examples of docs/management.md and the catalogues that come with the software go into a real node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.declared import DeclarationError, read_folder
from deploy.loader import Loader
from quintet.management.v1 import catalogue_pb2, loops_pb2, scorecards_pb2
from quintet.management.v1 import management_pb2 as management
from quintet_sdk import Client

if TYPE_CHECKING:
    from deploy.loader import LoadReport
    from deploy.testing import NodeProcess

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "management"
SCORECARD = EXAMPLES / "scorecards" / "handling.yaml"
CHINA = ROOT / "deploy" / "catalogues" / "cn-city-management.yaml"
DEPARTMENTS = (
    "sanitation", "urban-management", "construction", "municipal", "landscaping", "traffic", "power",
)  # fmt: skip


async def loaded(node: NodeProcess, folder: Path) -> LoadReport:
    async with Client(node.url) as client:
        await client.sign_in("node-admin", node.password())
        return await Loader(client).load(folder)


async def test_the_examples_are_loaded(node: NodeProcess) -> None:
    first = await loaded(node, EXAMPLES)
    assert {section: tally.created for section, tally in first.sections.items()} == {
        "organisations": 1,
        "calendars": 1,
        "loops": 1,
        "event_types": 1,
        "component_types": 1,
        "plans": 1,
        "scorecards": 1,
    }
    again = await loaded(node, EXAMPLES)
    assert all(tally.unchanged == tally.total for tally in again.sections.values()), str(again)
    async with Client(node.url) as client:
        await client.sign_in("node-admin", node.password())
        found = await client.loops.GetLoop(loops_pb2.GetLoopRequest(name="loops/fallen-tree"))
        assert found.definition == (EXAMPLES / "loops" / "fallen-tree.yaml").read_text()
        definition = scorecards_pb2.GetScorecardDefinitionRequest(name="scorecardDefinitions/handling")
        scorecard = (await client.scorecards.GetScorecardDefinition(definition)).definition
        assert (scorecard.source, scorecard.version) == (SCORECARD.read_text(), 1)
        asked = management.GetEventTypeRequest(name="eventTypes/fallen-tree")
        assert (await client.management.GetEventType(asked)).event_type.loop == found.loop.name


async def test_a_changed_scorecard_is_a_new_version_and_a_broken_one_is_named_by_line(
    node: NodeProcess, tmp_path: Path
) -> None:
    name = "scorecardDefinitions/loader-handling"
    text = SCORECARD.read_text().replace("scorecardDefinitions/handling", name)
    file = tmp_path / "cards" / "handling.yaml"
    file.parent.mkdir()
    file.write_text(text)
    (tmp_path / "node.yaml").write_text("scorecards: [cards/handling.yaml]\n")
    versions = []
    for days in (15, 15, 30):
        file.write_text(text.replace("appeal_days: 15", f"appeal_days: {days}"))
        tally = (await loaded(node, tmp_path)).sections["scorecards"]
        versions.append((tally.created, tally.changed, tally.unchanged))
    assert versions == [(1, 0, 0), (0, 0, 1), (0, 1, 0)]
    async with Client(node.url) as client:
        await client.sign_in("node-admin", node.password())
        for version, days in ((0, 30), (1, 15), (2, 30)):
            asked = scorecards_pb2.GetScorecardDefinitionRequest(name=name, version=version)
            assert (await client.scorecards.GetScorecardDefinition(asked)).definition.appeal_days == days

    broken = text.replace("that: response <= 4h", "that: respnse <= 4h").replace("weight: 20", "weight: much", 1)
    file.write_text(broken)
    with pytest.raises(DeclarationError) as caught:
        await loaded(node, tmp_path)
    assert (caught.value.file, caught.value.where) == (file, f"scorecards {name}")
    lines = {part: broken[: broken.index(part)].count("\n") + 1 for part in ("that: respnse", "weight: much")}
    assert f"line {lines['that: respnse']}: indicators[0].that: 'respnse'" in caught.value.problem
    assert f"line {lines['weight: much']}: indicators[0].weight: 'much' must match" in caught.value.problem


@pytest.fixture
def chinese_city(node: NodeProcess, tmp_path: Path) -> Path:
    zone = node.config.node.zone
    routes = "".join(f"  {each}: [{{zone: {zone}, organisation: cn.{each}}}]\n" for each in DEPARTMENTS)
    organisations = "".join(f"  - {{id: cn.{each}, zone: {zone}}}\n" for each in DEPARTMENTS)
    text = f"include: [{CHINA}]\nroutes:\n{routes}organisations:\n{organisations}"
    (tmp_path / "node.yaml").write_text(text)
    return tmp_path


async def test_the_catalogue_of_chinese_cities_is_loaded(node: NodeProcess, chinese_city: Path) -> None:
    report = await loaded(node, chinese_city)
    assert (report.sections["event_types"].created, report.sections["component_types"].created) == (20, 21)
    async with Client(node.url) as client:
        asked = management.GetEventTypeRequest(name="eventTypes/exposed-rubbish")
        rubbish = (await client.management.GetEventType(asked)).event_type
        assert (rubbish.title.zh, rubbish.code, rubbish.major_class.title.zh) == ("暴露垃圾", "0101", "市容环境类")
        assert [(need.action, need.photos) for need in rubbish.evidence] == [("dispose", 1)]
        bins = catalogue_pb2.ListComponentTypesRequest(event_type=rubbish.name)
        found = (await client.component_types.ListComponentTypes(bins)).component_types
        assert [(each.title.en, each.owners[0].organisation) for each in found] == [
            ("Litter bin", "organisations/cn.sanitation"),
            ("Refuse station", "organisations/cn.sanitation"),
        ]


def test_codes_and_classes_of_the_catalogue_belong_together(chinese_city: Path) -> None:
    declared = read_folder(chinese_city)
    for section, classes in (("event_types", 6), ("component_types", 5)):
        messages = [entry.message for entry in declared.entries[section]]
        codes = [getattr(message, "code", "") for message in messages]
        assert len(set(codes)) == len(codes)
        majors = {message.major_class.code: message.major_class for message in messages}  # type: ignore[attr-defined]
        assert len(majors) == classes
        for message, code in zip(messages, codes, strict=True):
            assert message.major_class == majors[code[:2]]  # type: ignore[attr-defined]
            titles = message.title  # type: ignore[attr-defined]
            assert all([titles.zh, titles.en])
