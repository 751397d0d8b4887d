"""Loops as files: YAML that a platform team writes, read with every fault named by its line and key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import yaml

from services.management.model import MERGED_STATUS, StepAction
from services.management.model_loop import EVIDENCE_PER_STEP_MAX, Action, Loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

LOOP_BYTES_MAX = 64 * 1024
STATES_MAX = 64
ACTIONS_MAX = 128
LOOP_NAME = re.compile(r"loops/[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_COUNT = re.compile(r"[0-9]{1,4}")
WORD = re.compile(r"[a-z][a-z_]{0,31}")
# What an action may ask for: the rights to events that posts can give (services/identity/policy.csv).
PERMISSIONS = (
    "management.events.advance",
    "management.events.dispatch",
    "management.events.dispose",
    "management.events.evaluate",
    "management.events.file",
    "management.events.open",
    "management.events.verify",
    "management.events.void",
    "management.exceptions.decide",
)

_RESERVED = frozenset(StepAction)
LOOP_KEYS = ("name", "title", "initial", "states", "open_states", "joint_states", "routes_at_once", "actions")
_SWITCHES = (
    "needs_reason", "needs_organisation", "needs_sub_orders_done", "sets_answer", "releases_organisation",
    "counts_return", "voids", "reopens", "on_request_only", "exception",
)  # fmt: skip
_COUNTS = ("needs_evidence", "needs_photos")
ACTION_KEYS = ("action", "title", "from", "to", "permission", *_SWITCHES, *_COUNTS)


class Fault(NamedTuple):
    """One rule that a text breaks. `line` counts from 1; `key` is the path of the key, "actions[2].to"."""

    source: str
    line: int
    key: str
    rule: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.key}: {self.rule}"


class LoopError(ValueError):
    """A loop breaks rules: all of them."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.problems))

    @property
    def problems(self) -> tuple[str, ...]:
        """The faults as "file:line: key: rule"."""
        return tuple(map(str, self.faults))


def load_loops(folder: Path) -> Mapping[str, Loop]:
    """Read every *.yaml of a folder; return the loops by name. Raises LoopError with the faults of all files."""
    return {loop.name: loop for loop, _ in read_loops(folder)}


def read_loops(folder: Path) -> list[tuple[Loop, str]]:
    """Read every *.yaml of a folder; return the loops with their texts. Raises LoopError with all files' faults."""
    loops: dict[str, tuple[Loop, str]] = {}
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_text()
        try:
            loop = parse_loop(text, path.name)
        except LoopError as error:
            faults.extend(error.faults)
            continue
        if loop.name in loops:
            faults.append(Fault(path.name, 1, "name", f"{loop.name} stands in another file too"))
        loops[loop.name] = loop, text
    if faults:
        raise LoopError(faults)
    return list(loops.values())


def parse_loop(text: str, source: str) -> Loop:
    """Read one loop; `source` names it in faults. Raises LoopError."""
    if len(text.encode()) > LOOP_BYTES_MAX:
        raise LoopError([Fault(source, 1, "file", f"is larger than {LOOP_BYTES_MAX} bytes")])
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise LoopError([Fault(source, line, "file", getattr(error, "problem", None) or "is not YAML")]) from error
    except RecursionError as error:
        raise LoopError([Fault(source, 1, "file", "is nested too deeply")]) from error
    reader = _Reader(source)
    loop = _loop(reader, node)
    if loop is not None and not reader.faults:
        _check_paths(reader, loop)
    if loop is None or reader.faults:
        raise LoopError(reader.faults)
    return loop


class _Reader:
    """Takes typed values out of YAML nodes, noting each fault with its line; what is missing reads as empty."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.faults: list[Fault] = []
        self.lines: dict[str, int] = {}  # of states and actions, by "state x" and "action y"

    def problem(self, line: int, key: str, rule: str) -> None:
        self.faults.append(Fault(self.source, line, key, rule))

    def mapping(self, node: yaml.Node | None, key: str, known: Iterable[str]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self.problem(_line(node), key or "file", "must be a mapping")
            return {}
        found: dict[str, yaml.Node] = {}
        for name, value in node.value:
            path = f"{key}.{name.value}" if key else str(name.value)
            if name.value not in known:
                self.problem(_line(name), path, "is not a known key")
            elif name.value in found:
                self.problem(_line(name), path, "stands here twice")
            found[str(name.value)] = value
        return found

    def sequence(self, node: yaml.Node | None, key: str, line: int, items_max: int) -> list[yaml.Node]:
        if node is None:
            self.problem(line, key, "is required")
        elif not isinstance(node, yaml.SequenceNode) or not node.value:
            self.problem(_line(node), key, "must be a list of at least one item")
        elif len(node.value) > items_max:
            self.problem(_line(node), key, f"has more than {items_max} items")
        else:
            return list(node.value)
        return []

    def text(self, node: yaml.Node | None, key: str, line: int, pattern: re.Pattern[str] | None = None) -> str:
        if node is None:
            self.problem(line, key, "is required")
        elif not isinstance(node, yaml.ScalarNode) or not node.value or node.tag == "tag:yaml.org,2002:null":
            self.problem(_line(node), key, "must be text")
        elif pattern is not None and not pattern.fullmatch(node.value):
            self.problem(_line(node), key, f"{node.value!r} must match {pattern.pattern}")
        else:
            return str(node.value)
        return ""

    def switch(self, node: yaml.Node | None, key: str) -> bool:
        if node is None:
            return False
        if node.tag != "tag:yaml.org,2002:bool":
            self.problem(_line(node), key, "must be true or false")
        return str(node.value).lower() in {"true", "yes", "on"}

    def count(self, node: yaml.Node | None, key: str, most: int) -> int:
        if node is None:
            return 0
        if node.tag != "tag:yaml.org,2002:int" or not _COUNT.fullmatch(str(node.value)) or int(node.value) > most:
            self.problem(_line(node), key, f"must be a number from 0 to {most}")
            return 0
        return int(node.value)

    def title(self, node: yaml.Node | None, key: str, line: int) -> tuple[str, str]:
        if node is None:
            self.problem(line, key, "is required")
            return "", ""
        found = self.mapping(node, key, ("zh", "en"))
        zh, en = (self.text(found.get(word), f"{key}.{word}", _line(node)) for word in ("zh", "en"))
        return zh, en

    def states(self, node: yaml.Node | None, key: str, line: int, known: tuple[str, ...] | None) -> tuple[str, ...]:
        """Read a list of states: new ones when `known` is None, else some of the known."""
        found: list[str] = []
        for index, item in enumerate(self.sequence(node, key, line, STATES_MAX)):
            path = f"{key}[{index}]"
            state = self.state(item, path, line, known)
            if state in found:
                self.problem(_line(item), path, f"{state!r} stands in the list twice")
            elif state:
                found.append(state)
                if known is None:
                    self.lines[f"state {state}"] = _line(item)
        return tuple(found)

    def state(self, node: yaml.Node | None, key: str, line: int, known: tuple[str, ...] | None) -> str:
        state = self.text(node, key, line, WORD)
        if state == MERGED_STATUS:
            self.problem(_line(node), key, f"{state!r} is the end of events that are merged and cannot be declared")
        if state and known is not None and state not in known:
            self.problem(_line(node), key, f"{state!r} is not one of the states")
        return state


def _line(node: yaml.Node | None) -> int:
    return node.start_mark.line + 1 if node is not None and node.start_mark is not None else 1


def _loop(reader: _Reader, node: yaml.Node | None) -> Loop | None:
    found = reader.mapping(node, "", LOOP_KEYS)
    if not found:
        return None
    states = reader.states(found.get("states"), "states", 1, None)
    open_states = reader.states(found.get("open_states"), "open_states", 1, states)
    initial = reader.state(found.get("initial"), "initial", 1, states)
    if initial and initial in states and initial not in open_states:
        reader.problem(_line(found["initial"]), "initial", f"{initial!r} must be one of the open states")
    joint = found.get("joint_states")
    title_zh, title_en = reader.title(found.get("title"), "title", 1)
    return Loop(
        name=reader.text(found.get("name"), "name", 1, LOOP_NAME),
        title_zh=title_zh,
        title_en=title_en,
        initial=initial,
        states=states,
        open_states=open_states,
        joint_states=reader.states(joint, "joint_states", 1, open_states) if joint is not None else (),
        routes_at_once=reader.switch(found.get("routes_at_once"), "routes_at_once"),
        actions=tuple(_actions(reader, found.get("actions"), states)),
    )


def _actions(reader: _Reader, node: yaml.Node | None, states: tuple[str, ...]) -> Iterator[Action]:
    for index, item in enumerate(reader.sequence(node, "actions", 1, ACTIONS_MAX)):
        yield _action(reader, item, f"actions[{index}]", states)


def _action(reader: _Reader, node: yaml.Node, key: str, states: tuple[str, ...]) -> Action:
    line = _line(node)
    found = reader.mapping(node, key, ACTION_KEYS)
    name = reader.text(found.get("action"), f"{key}.action", line, WORD)
    if name in _RESERVED:
        reader.problem(line, f"{key}.action", f"{name!r} is a step of every event and cannot be declared")
    if f"action {name}" in reader.lines:
        reader.problem(line, f"{key}.action", f"{name!r} is declared in line {reader.lines[f'action {name}']} already")
    reader.lines.setdefault(f"action {name}", line)
    title_zh, title_en = reader.title(found.get("title"), f"{key}.title", line)
    counts = [reader.count(found.get(count), f"{key}.{count}", EVIDENCE_PER_STEP_MAX) for count in _COUNTS]
    switches = {switch: reader.switch(found.get(switch), f"{key}.{switch}") for switch in _SWITCHES}
    if switches["on_request_only"] and any(counts):
        reader.problem(line, key, "nobody shows evidence with what is taken on request only")
    return Action(
        action=name,
        title_zh=title_zh,
        title_en=title_en,
        sources=reader.states(found.get("from"), f"{key}.from", line, states),
        target=reader.state(found.get("to"), f"{key}.to", line, states),
        permission=_permission(reader, found.get("permission"), f"{key}.permission", line),
        needs_evidence=counts[0],
        needs_photos=counts[1],
        **switches,
    )


def _permission(reader: _Reader, node: yaml.Node | None, key: str, line: int) -> str:
    permission = reader.text(node, key, line)
    if permission and permission not in PERMISSIONS:
        reader.problem(_line(node), key, f"{permission!r} must be one of {', '.join(PERMISSIONS)}")
    return permission


def _check_paths(reader: _Reader, loop: Loop) -> None:
    """Every state can be reached, and from every open state the event can come to an end."""
    reached = _closure({loop.initial}, [(source, a.target) for a in loop.actions for source in a.sources])
    ends = set(loop.states) - set(loop.open_states)
    ending = _closure(ends, [(a.target, source) for a in loop.actions for source in a.sources])
    for state in loop.states:
        line = reader.lines[f"state {state}"]
        if state not in reached:
            reader.problem(line, "states", f"{state!r} cannot be reached from {loop.initial!r}")
        elif state not in ending:
            reader.problem(line, "states", f"an event that is {state!r} can never be closed")


def _closure(start: set[str], edges: list[tuple[str, str]]) -> set[str]:
    found = set(start)
    while more := {after for before, after in edges if before in found} - found:
        found |= more
    return found
