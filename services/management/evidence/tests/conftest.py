"""The nodes of management's tests, and both kinds of stores for their evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from deploy.testing_s3 import S3Server
from libs.config import Secrets
from services.management.evidence.tests.stores import BucketStore, FolderStore, Line
from services.management.tests.conftest import make_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from services.management.evidence.tests.stores import Store
    from services.management.tests.conftest import MakeNode, Node

__all__ = ["make_node"]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A store that speaks S3, for all tests of the session."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def bucket(s3: S3Server, tmp_path: Path) -> AsyncIterator[BucketStore]:
    """An empty bucket, and the secrets of the node `sf` that open it."""
    line = Line(s3.port)
    await line.mend()
    store = BucketStore(s3, line, Secrets(tmp_path / "state" / "secrets"))
    yield store
    await line.cut()
    s3.drop_bucket(store.bucket)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Where the node `sf` keeps evidence: tests that ask for it run with each kind."""
    if request.param == "folder":
        return FolderStore(tmp_path / "state" / "evidence", monkeypatch)
    found: BucketStore = request.getfixturevalue("bucket")
    return found


@pytest_asyncio.fixture
async def city(make_node: MakeNode, store: Store) -> Node:
    return await make_node(settings=store.settings)
