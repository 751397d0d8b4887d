"""State folders and edges for the tests of the real servers."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from deploy.runtime import remove_state
from deploy.runtime.tests.edge import Edge, Start, build_descriptors


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder that every account can reach (pytest's own folders are closed to others)."""
    top = Path(tempfile.mkdtemp(prefix="quintet-test-"))
    top.chmod(0o711)
    yield top / "state"
    remove_state(top / "state")
    shutil.rmtree(top)


@pytest.fixture(scope="session")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edge") / "descriptors.binpb"
    build_descriptors(path)
    return path


@pytest.fixture
async def start(state: Path, descriptors: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:
        yield Start(stack, state, descriptors)


@pytest.fixture
async def edge(start: Start) -> Edge:
    return await start()
