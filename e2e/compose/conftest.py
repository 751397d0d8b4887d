"""City, district and partner in containers, joined and loaded once for all tests of the folder."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from demo.nodes import free_ports
from demo.settings import ROOT
from e2e.compose.federation import Composed, join
from e2e.compose.nodes import ComposedNode, build_image, network_between, run

TIMEOUT_S = 1_500


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for the image and for thirty containers."""
    for item in items:
        if Path(item.path).is_relative_to(ROOT / "e2e" / "compose"):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S, func_only=False))


@pytest.fixture(scope="session")
def composed() -> Iterator[Composed]:
    """The three nodes, up, loaded and joined. Nothing of them is left at the end."""
    run("docker", "info")
    build_image()
    ports = free_ports(3)
    found = Composed(
        city=ComposedNode("city", "sf", "sf", ports[0]),
        district=ComposedNode("district", "sf-d10", "sf-d10", ports[1]),
        partner=ComposedNode("partner", "beijing", "beijing", ports[2]),
    )
    with ExitStack() as stack:
        for node in found.nodes:
            node.remove()  # what a run that was killed may have left, its data too
        stack.enter_context(network_between())
        for node in found.nodes:
            stack.callback(node.remove)
        with ThreadPoolExecutor() as threads:
            list(threads.map(ComposedNode.start, found.nodes))
        for node in found.nodes:
            node.until_ready()
            node.load()
        join(found.city, found.district, zone="us-ca-sf-d10")
        join(found.city, found.partner)
        yield found
        report = ROOT / "build" / "compose" / "report.json"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(found.report, indent=1) + "\n")
