"""What people read of why a case is suggested, in zh-CN and en."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.texts import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.management.cases.model_similar import Candidate

SAME_TYPE = Text("类型相同", "same type")
SAME_CLASS = Text("大类相同", "a type of the same class")
WORDS = Text("用词相近（{share}%）：{words}", "{share}% of its words in common: {words}")
PLACE = Text("场所同为{place}", "also at {place}")
USED = Text("曾用于{all}件，{helped}件有帮助", "used for {all} events and helped with {helped}")
PLACES = {
    "residential": Text("居住区", "a residential place"),
    "street": Text("道路", "a street"),
    "park": Text("公园广场", "a park or square"),
    "school": Text("学校", "a school"),
    "hospital": Text("医院", "a hospital"),
    "transit": Text("车站隧道", "a station or tunnel"),
    "water": Text("水域桥梁", "water or a bridge"),
    "construction": Text("工地", "a building site"),
    "market": Text("市场商铺", "a market or shop"),
}


def why(kind: float, words: float, shared: Sequence[str], place: str, candidate: Candidate) -> tuple[str, str]:
    """Return what the score is made of, in both languages."""
    parts: list[tuple[str, str]] = []
    if kind:
        parts.append((SAME_TYPE if kind == 1 else SAME_CLASS).fill())
    if shared:
        parts.append(WORDS.fill(share=f"{words * 100:.0f}", words=" ".join(shared)))
    if place:
        named = PLACES[place]
        parts.append((PLACE.zh.format(place=named.zh), PLACE.en.format(place=named.en)))
    if used := candidate.helped + candidate.did_not_help:
        parts.append(USED.fill(all=str(used), helped=str(candidate.helped)))
    return "；".join(zh for zh, _ in parts), "; ".join(en for _, en in parts)
