"""Who handles a zone: this node, minus what it has delegated to child nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.management import store_zones

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.zones import ZoneTree


class Authority(NamedTuple):
    """What this node knows of a zone.

    known: it is in the tree. ours: this node handles it. nearest: the deepest zone above it, or itself, that this node
    handles; the node's own zone when there is none. node: the child node that has it, "" when none has.
    """

    known: bool
    ours: bool
    nearest: str
    node: str


async def authority(conn: Connection, tree: ZoneTree, code: str) -> Authority:
    """Return who handles a zone, given by its present code, as of the facts taken in so far."""
    inside = [above for above in tree.path(code) if tree.covers(tree.root, above)]
    if not inside:
        return Authority(known=code in tree, ours=False, nearest=tree.root, node="")
    children = await store_zones.delegated(conn, inside)
    below = [place for place, above in enumerate(inside) if above in children]
    if not below:
        return Authority(known=True, ours=True, nearest=code, node="")
    nearest = inside[below[0] - 1] if below[0] else tree.root
    return Authority(known=True, ours=False, nearest=nearest, node=children[inside[below[-1]]])
