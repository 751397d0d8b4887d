"""Files that the servers read: written whole, and readable by their server alone, for they may hold passwords."""

import os
from pathlib import Path

from deploy.runtime.account import Account, give


def write_private(path: Path, content: str | bytes, account: Account | None = None) -> None:
    """Replaces the file in one step (0600, owned by the account): a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    give(account, temporary)
    temporary.replace(path)
