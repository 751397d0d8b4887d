"""Runs protoc over proto/ with the plugins of this repository; everything is taken from installed packages."""

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO_ROOT = ROOT / "proto"
# buf and protoc need google/api as files. They are copied from googleapis-common-protos into a folder that git does not
# keep and that buf does not lint.
IMPORTED_ROOT = ROOT / "build" / "protos"
IMPORTED_PROTOS = (
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/rpc/code.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)
TYPESCRIPT_PLUGIN = ROOT / "sdk" / "typescript" / "node_modules" / ".bin" / "protoc-gen-es"


class ProtocError(Exception):
    """protoc, or a plugin of it, is missing or refused its input; the text says which and why."""


def copy_imports() -> None:
    """Copies the google/api and google/rpc protos below build/protos."""
    for name in IMPORTED_PROTOS:
        package, _, filename = name.rpartition("/")
        source = files(package.replace("/", ".")) / filename
        target = IMPORTED_ROOT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = source.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            target.write_bytes(content)


def own_protos() -> list[str]:
    """The protos of this repository, relative to proto/, in a stable order."""
    return sorted(path.relative_to(PROTO_ROOT).as_posix() for path in PROTO_ROOT.rglob("*.proto"))


def run_protoc(arguments: list[str], protos: list[str], roots: tuple[Path, ...] = (PROTO_ROOT, IMPORTED_ROOT)) -> None:
    """Runs protoc with imports from `roots`; raises ProtocError with its own words when it fails."""
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        *(f"-I{root}" for root in roots),
        *arguments,
        *protos,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ProtocError(result.stderr.strip() or f"protoc ended with {result.returncode}")


def python_plugin(name: str) -> str:
    """The protoc argument for a plugin that lies beside this interpreter; raises ProtocError when it is missing."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        message = f"{path} is missing: run `make` once to install the locked packages"
        raise ProtocError(message)
    return f"--plugin={name}={path}"


def typescript_plugin() -> str:
    """The protoc argument for protoc-gen-es; raises ProtocError when npm has not installed it."""
    if not TYPESCRIPT_PLUGIN.exists() or shutil.which("node") is None:
        message = "protoc-gen-es is missing: `make gen` installs it with npm ci (Node 20 or newer)"
        raise ProtocError(message)
    return f"--plugin=protoc-gen-es={TYPESCRIPT_PLUGIN}"


if __name__ == "__main__":
    copy_imports()
