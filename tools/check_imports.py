"""Import rules that import-linter cannot say, because they go by file name or concern other people's packages.

- only stores, the data modules of libs and the runtime that makes databases and roles speak SQL (asyncpg);
- a model knows neither wire nor store; a store knows neither service nor wiring; this holds for modules that were split
  (`store_events.py`, `event_store.py`) as for `store.py`;
- what stands outside a service takes it through its wiring;
- every Python file lies in a package, or the other rules would not see it.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKED = ("libs", "services", "gateway", "deploy", "demo", "e2e", "bench", "tools")
# The modules of libs that hold connections; all others reach the database through them.
DATA_LIBS = frozenset({"db", "duty", "migrate", "outbox", "testing", "tx"})
# It makes the databases and login roles, before any service is there.
DATA_RUNTIME = Path("deploy/runtime/database.py")
ROLES = ("model", "store", "service", "wiring")
# A model is pure: no wire format, no transport, no database, no bus.
NOT_IN_A_MODEL = ("grpc", "google", "quintet", "asyncpg", "nats", "httpx")
# `credential` is pure: what a certificate says must be checked without a running service.
ENTRANCES = frozenset({"wiring", "__main__", "credential"})


@dataclass(frozen=True)
class Module:
    """One Python file: its path from the root and the dotted names that it imports, with their lines."""

    path: Path
    imports: tuple[tuple[str, int], ...]

    @property
    def service(self) -> str:
        """The name of the service that the file is part of; empty outside the services."""
        parts = self.path.parts
        return parts[1] if parts[0] == "services" and len(parts) > 2 else ""  # noqa: PLR2004  services/<part>/<file>

    @property
    def role(self) -> str:
        """What the file's name says it is: one of ROLES, "entrance" for `__main__`, or empty."""
        return _role(self.path.stem)

    @property
    def is_test(self) -> bool:
        """Tests may reach into what they test."""
        return "tests" in self.path.parts or self.path.name == "conftest.py" or self.path.parts[0] == "e2e"


def _role(stem: str) -> str:
    if stem == "__main__":
        return "entrance"
    words = stem.split("_")
    return next((role for role in ROLES if role in words), "")


def read(path: Path, root: Path) -> Module:
    """Parses one file; raises SyntaxError when it is not Python."""
    package = path.relative_to(root).parent.parts
    return Module(path.relative_to(root), tuple(_imported(ast.parse(path.read_text()), package)))


def _imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            for name in node.names:
                yield f"{base}.{name.name}", node.lineno


def faults(module: Module) -> Iterator[str]:
    """What the file imports and must not, one line each."""
    if module.is_test:
        return
    for name, line in module.imports:
        reason = _database(module, name) or _inside(module, name) or _outside(module, name)
        if reason:
            yield f"{module.path}:{line}: imports {name}: {reason}"


def _database(module: Module, name: str) -> str:
    if name.partition(".")[0] != "asyncpg":
        return ""
    of_libs = module.path.parts[0] == "libs"
    is_store = module.role == "store" and (module.service or of_libs)
    if is_store or (of_libs and module.path.stem in DATA_LIBS) or module.path == DATA_RUNTIME:
        return ""
    return "only stores and the data modules of libs speak SQL"


def _inside(module: Module, name: str) -> str:
    if not module.service or module.role not in ROLES:
        return ""
    if module.role == "model" and name.partition(".")[0] in NOT_IN_A_MODEL:
        return "a model is pure"
    own = f"services.{module.service}."
    if not name.startswith(own):
        return ""
    # `from services.x import store` and `from services.x.store import f` both name the module first.
    imported = _role(name.removeprefix(own).partition(".")[0])
    ranks = [*ROLES, "entrance"]
    if imported and ranks.index(imported) > ranks.index(module.role):
        return f"a {module.role} stands below a {imported}"
    return ""


def _outside(module: Module, name: str) -> str:
    parts = name.split(".")
    if module.service or parts[0] != "services" or len(parts) < 3:  # noqa: PLR2004  services.<part>.<module>
        return ""
    return "" if parts[2] in ENTRANCES else "outside a service only its wiring may be imported"


def without_package(paths: list[Path], root: Path) -> Iterator[str]:
    """Folders with Python files that lack an `__init__.py`; folders of tests may."""
    for folder in sorted({path.parent for path in paths}):
        relative = folder.relative_to(root)
        if "tests" not in relative.parts and not (folder / "__init__.py").exists():
            yield f"{relative}: lacks __init__.py, so import rules do not see it"


def check(root: Path) -> list[str]:
    """All faults below `root`, in the order of the files."""
    paths = sorted(path for folder in CHECKED for path in (root / folder).rglob("*.py"))
    found = list(without_package(paths, root))
    for path in paths:
        found.extend(faults(read(path, root)))
    return found


def main() -> int:
    """Prints the faults; 1 when there are any."""
    found = check(ROOT)
    print("\n".join(found) if found else "import rules of tools/check_imports.py: kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
