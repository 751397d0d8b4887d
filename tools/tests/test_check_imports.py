from pathlib import Path

import pytest

from tools.check_imports import check


def tree(root: Path, path: str, code: str) -> list[str]:
    file = root / path
    file.parent.mkdir(parents=True)
    for folder in file.relative_to(root).parents[:-1]:
        (root / folder / "__init__.py").touch()
    file.write_text(code)
    return check(root)


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("services/delivery/service.py", "import asyncpg", "only stores"),
        ("libs/rpc.py", "from asyncpg import Connection", "only stores"),
        ("services/delivery/model.py", "import grpc.aio", "a model is pure"),
        ("services/delivery/request_model.py", "from quintet.delivery.v1 import delivery_pb2", "a model is pure"),
        ("services/delivery/model.py", "from services.delivery import store", "a model stands below a store"),
        ("services/delivery/store.py", "from services.delivery.service import f", "a store stands below a service"),
        ("services/delivery/store_items.py", "from . import wiring", "a store stands below a wiring"),
        ("services/delivery/service.py", "from .wiring import build", "a service stands below a wiring"),
        ("services/delivery/wiring.py", "import services.delivery.__main__", "a wiring stands below a entrance"),
        ("deploy/cli.py", "from services.delivery.store import f", "only its wiring"),
        ("demo/__main__.py", "from services.delivery import model", "only its wiring"),
    ],
)
def test_what_is_refused(tmp_path: Path, path: str, code: str, reason: str) -> None:
    (fault,) = tree(tmp_path, path, f"x = 1\n{code}\n")
    assert fault.startswith(f"{path}:2: imports ")
    assert reason in fault


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("services/delivery/store_items.py", "import asyncpg\nfrom services.delivery import model"),
        ("services/delivery/service.py", "from services.delivery import facts, model, store"),
        ("services/delivery/tests/test_service.py", "import asyncpg\nfrom services.delivery import store"),
        ("libs/db.py", "import asyncpg"),
        ("deploy/runtime/database.py", "import asyncpg"),
        ("deploy/host.py", "from services.delivery import wiring"),
        ("deploy/run.py", "from services.delivery.wiring import build"),
        ("e2e/test_all.py", "import asyncpg"),
    ],
)
def test_what_is_allowed(tmp_path: Path, path: str, code: str) -> None:
    assert tree(tmp_path, path, code) == []


def test_a_folder_without_init_is_named(tmp_path: Path) -> None:
    (tmp_path / "services" / "delivery").mkdir(parents=True)
    (tmp_path / "services" / "__init__.py").touch()
    (tmp_path / "services" / "delivery" / "service.py").touch()
    assert check(tmp_path) == ["services/delivery: lacks __init__.py, so import rules do not see it"]
