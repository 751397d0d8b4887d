"""YAML of mapping files as plain values that know in which line they stand, so that every fault can name its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAPPING_BYTES_MAX = 1024 * 1024


class MappingError(ValueError):
    """A mapping file breaks rules; `problems` holds one "file:line: key: rule" each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: the file, its line from 1, and the path of keys to it."""

    file: str
    line: int
    path: str

    def wrong(self, rule: str) -> MappingError:
        return MappingError([f"{self.file}:{self.line}: {self.path or 'file'}: {rule}"])


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the document."""

    node: yaml.Node
    place: Place

    @property
    def is_text(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    def text(self) -> str:
        """Return a scalar as it is written. Raises MappingError for anything else."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.place.wrong("must be text")
        return str(self.node.value)

    def items(self) -> list[Part]:
        """Return the items of a list. Raises MappingError."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.place.wrong("must be a list")
        return [self._inner(node, f"{self.place.path}[{index}]") for index, node in enumerate(self.node.value)]

    def keys(self, known: Iterable[str] | None = None) -> dict[str, Part]:
        """Return a mapping by its keys, in the order of the file. Raises MappingError for one that is not `known`."""
        return dict(self._keys(None if known is None else frozenset(known)))

    def _keys(self, known: frozenset[str] | None) -> Iterator[tuple[str, Part]]:
        if not isinstance(self.node, yaml.MappingNode):
            raise self.place.wrong("must be a mapping")
        seen: set[str] = set()
        for key, node in self.node.value:
            name = str(key.value)
            inner = self._inner(key, f"{self.place.path}.{name}".lstrip("."))
            if known is not None and name not in known:
                raise inner.place.wrong(f"is not a known key; there are {', '.join(sorted(known))}")
            if name in seen:
                raise inner.place.wrong("stands here twice")
            seen.add(name)
            yield name, self._inner(node, inner.place.path)

    def _inner(self, node: yaml.Node, path: str) -> Part:
        return Part(node, Place(self.place.file, node.start_mark.line + 1, path))


def read_document(path: Path) -> Part:
    """Read a file. Raises MappingError."""
    place = Place(path.name, 1, "")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise place.wrong(f"cannot be read: {error}") from error
    if len(text.encode()) > MAPPING_BYTES_MAX:
        raise place.wrong(f"is larger than {MAPPING_BYTES_MAX} bytes")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise Place(path.name, mark.line + 1 if mark else 1, "").wrong("is not YAML") from error
    if node is None:
        raise place.wrong("is empty")
    return Part(node, place)
