"""In which line of a YAML file something stands, by its path."""

import re

import yaml

_WORD = re.compile(r"[^.\[\]\s]+")
_CAPITAL = re.compile(r"(?=[A-Z])")


def line_of(node: yaml.Node | None, path: str = "") -> int:
    """Return the line, from 1, of "routes[0].zone" below a node: of as much of the path as is there, 0 without a node.

    Words may be in the JSON spelling, as the node of the city names fields; a first word that is not there is passed
    over, since that is how it names the message.
    """
    if node is None:
        return 0
    words = _WORD.findall(path)
    if len(words) > 1 and _below(node, words[0]) is None:
        del words[0]
    line = node.start_mark.line
    for word in words:
        found = _below(node, word)
        if found is None:
            break
        line, node = found
    return int(line) + 1


def child(node: yaml.Node | None, word: str) -> yaml.Node | None:
    """Return what stands under a key, or at an index."""
    found = _below(node, word) if node is not None else None
    return found[1] if found else None


def _below(node: yaml.Node, word: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and word.isdigit() and int(word) < len(node.value):
        item = node.value[int(word)]
        return item.start_mark.line, item
    if isinstance(node, yaml.MappingNode):
        snake = _CAPITAL.sub("_", word).lower()
        for key, value in node.value:
            if key.value in {word, snake}:
                return key.start_mark.line, value
    return None
