"""Takes values out of a settings file by the rules that they must keep, and says at once all that is wrong with it."""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CODE = r"[a-z0-9][a-z0-9-]{0,62}"
HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
ADDRESS = rf"{HOST}:[0-9]{{1,5}}"
ORIGIN = rf"https?://{HOST}(?::[0-9]{{1,5}})?"
HOURS_MAX = 24 * 365
PORT_MAX = 65_535


class ConfigError(ValueError):
    """node.toml breaks rules; problems holds one "section.key: rule" per line."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__(f"{path}:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = tuple(problems)


class SettingsReader:
    """Takes typed values out of the document by "section.key", and notes every problem, not only the first."""

    def __init__(self, document: dict[str, Any], folder: Path) -> None:
        self.folder = folder
        self._left: dict[str, Any] = {}
        self._problems: list[str] = []
        for section, content in document.items():
            if isinstance(content, dict):
                self._left.update({f"{section}.{key}": value for key, value in content.items()})
            else:
                self.problem(section, "must stand inside a section such as [node]")

    def problem(self, key: str, rule: str) -> None:
        self._problems.append(f"{key}: {rule}")

    def finish(self, path: Path) -> None:
        for key in self._left:
            self.problem(key, "is not a known key")
        if self._problems:
            raise ConfigError(path, self._problems)

    def has(self, key: str) -> bool:
        """Tell whether a key was given and has not been taken yet."""
        return key in self._left

    def text(self, key: str, *, pattern: str, default: str | None = None) -> str:
        value = self._left.pop(key, default)
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        self.problem(key, f"must be text matching {pattern}, got {value!r}" if value is not None else "is required")
        return default or ""

    def texts(self, key: str, *, pattern: str) -> tuple[str, ...]:
        value = self._left.pop(key, [])
        if isinstance(value, list) and all(isinstance(item, str) and re.fullmatch(pattern, item) for item in value):
            return tuple(value)
        self.problem(key, f"must be a list of texts matching {pattern}, got {value!r}")
        return ()

    def path(self, key: str, *, required: bool = True) -> Path | None:
        value = self._left.pop(key, None)
        if isinstance(value, str) and value and "\0" not in value:
            return (self.folder / Path(value).expanduser()).resolve()
        if value is not None or required:
            self.problem(key, f"must be a path, got {value!r}" if value is not None else "is required")
        return None

    def integer(self, key: str, *, default: int, low: int, high: int) -> int:
        value = self._left.pop(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.problem(key, f"must be a whole number from {low} to {high}, got {value!r}")
        return default

    def port(self, key: str) -> int:
        return self.integer(key, default=0, low=0, high=PORT_MAX)

    def optional_port(self, key: str) -> int | None:
        return self.port(key) if key in self._left else None

    def boolean(self, key: str, *, default: bool) -> bool:
        value = self._left.pop(key, default)
        if isinstance(value, bool):
            return value
        self.problem(key, f"must be true or false, got {value!r}")
        return default

    def ratio(self, key: str, *, default: float) -> float:
        value = self._left.pop(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
        self.problem(key, f"must be a number from 0 to 1, got {value!r}")
        return default

    def hours(self, key: str, *, default: float) -> float:
        value = self._left.pop(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= HOURS_MAX:
            return float(value)
        self.problem(key, f"must be a number of hours above 0 and up to {HOURS_MAX}, got {value!r}")
        return default

    def host(self, key: str) -> str:
        """An address to listen on: names are not resolved, so that what is opened is what stands in the file."""
        value = self._left.pop(key, "127.0.0.1")
        try:
            return str(ipaddress.ip_address(str(value)))
        except ValueError:
            self.problem(key, f"must be an IP address to listen on, got {value!r}")
            return "127.0.0.1"

    def url(self, key: str, schemes: tuple[str, ...]) -> str | None:
        value = self._left.pop(key, None)
        if value is None:
            return None
        try:
            parts = urlsplit(value if isinstance(value, str) else "")
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in schemes or parts.username is not None or parts.password is not None:
            # The value is not repeated: what is wrong with it may be that it holds a password.
            self.problem(key, f"must be a URL of {' or '.join(schemes)} without user and password")
            return None
        return str(value)

    def addresses(self, section: str, names: tuple[str, ...]) -> Mapping[str, str]:
        given = [name for name in names if f"{section}.{name}" in self._left]
        return {name: self.text(f"{section}.{name}", pattern=ADDRESS) for name in given}
