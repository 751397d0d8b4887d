"""What kind of place something is at, told from words in Chinese and English. Pure."""

from __future__ import annotations

import re
from enum import StrEnum

from services.management.model_words import plain


class PlaceClass(StrEnum):
    """Names as in the proto."""

    UNKNOWN = ""
    RESIDENTIAL = "residential"
    STREET = "street"
    PARK = "park"
    SCHOOL = "school"
    HOSPITAL = "hospital"
    TRANSIT = "transit"
    WATER = "water"
    CONSTRUCTION = "construction"
    MARKET = "market"


# The more telling kinds first: a school in Park Street is a school, and nearly every address has a street.
_WORDS: tuple[tuple[PlaceClass, str, str], ...] = (
    (PlaceClass.SCHOOL, "学校 小学 中学 大学 幼儿园 校门", "school college university kindergarten nursery campus"),
    (PlaceClass.HOSPITAL, "医院 诊所 卫生院 急诊", "hospital clinic"),
    (PlaceClass.CONSTRUCTION, "工地 施工 基坑 在建", "construction scaffold scaffolding excavation"),
    (PlaceClass.TRANSIT, "地铁 车站 公交站 隧道 地下通道 站台", "station subway muni bart tunnel underpass platform"),
    (PlaceClass.WATER, "河道 河边 河堤 湖 水库 渠 桥 码头", "river creek canal lake bridge pier shore levee"),
    (PlaceClass.PARK, "公园 绿地 广场 绿化带", "park playground plaza square garden"),
    (PlaceClass.MARKET, "市场 商场 超市 餐馆 饭店 商铺 菜场", "market mall shop store restaurant supermarket"),
    (
        PlaceClass.RESIDENTIAL,
        "小区 居民楼 单元 楼道 家属院 公寓 宿舍",
        "apartment residential compound condominium dormitory tenant stairwell",
    ),
    (PlaceClass.STREET, "路口 人行道 马路 大街 街道 胡同 巷 路", "street avenue road sidewalk pavement crossing alley"),
)


def told_from(*texts: str) -> tuple[PlaceClass, str]:
    """Return the kind of place that texts speak of, and the word that says so; UNKNOWN and "" for none."""
    spoken = " ".join(plain(text) for text in texts)
    words = set(re.findall(r"[a-z]+", spoken))
    for kind, chinese, english in _WORDS:
        for word in chinese.split():
            if word in spoken:
                return kind, word
        for word in english.split():
            if word in words or f"{word}s" in words:
                return kind, word
    return PlaceClass.UNKNOWN, ""
