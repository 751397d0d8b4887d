"""A node's tables full of events, as reports come, written by a few statements: a million takes long any other way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.pair import BenchNode

NODE = "sf"
OPEN_SHARE = 0.05
FILL_TIMEOUT_S = 1200
# What people write, of which each report has two. No two languages say the same.
PHRASES = [
    "路灯不亮，晚上很黑",
    "井盖丢失，路面有洞",
    "垃圾成堆无人清理",
    "工地夜间施工噪音扰民",
    "墙面有涂鸦",
    "路口积水严重",
    "单车占用盲道",
    "树枝压到电线",
    "小广告贴满电线杆",
    "消防通道被堵",
    "水管漏水三天了",
    "公交站牌损坏",
    "人行道砖块松动",
    "the street light is out and it is dark",
    "a manhole cover is missing",
    "garbage piled up on the corner",
    "construction noise after midnight",
    "graffiti on the retaining wall",
    "the intersection is flooded",
    "bicycles block the tactile paving",
    "a branch hangs over the wires",
    "posters cover the lamp post",
    "the hydrant is leaking",
    "a mattress was dumped here",
    "broken glass on the playground",
    "the sign fell over",
    "cars park on the crossing",
    "the bench is broken",
    "a dead animal lies on the road",
    "the signal does not change",
]

# A tenth is not known more closely than the city, the districts differ, and so do the departments. The last department
# has events, and none in the first district. Half lie around two hundred places where things happen again and again,
# the others anywhere in the city.
FILL = """
INSERT INTO management.events (
    name, zone, node, type, type_version, loop, title, description, address, address_key, latitude, longitude,
    zone_hint, neighbourhood, status, organisation, suggestion, supporters, occurred_at, opened_at, step_at, due_at,
    closed_at, revision, reports, warning, shares, shares_open, flags, returns, answer, partial, assignee
)
SELECT 'zones/' || zone || '/events/bench-' || n, zone, $1, 'eventTypes/bench-' || kind, 1, 'loops/seven-step',
    'Bench ' || kind || ' · ' || zone, ($6::text[])[1 + floor(random() * cardinality($6::text[]))::int] || ', '
        || ($6::text[])[1 + floor(random() * cardinality($6::text[]))::int] || ', ' || n,
    n || ' somewhere', n || ' somewhere',
    37.708 + CASE WHEN spot IS NULL THEN random() ELSE mod(spot * 0.6180339887, 1) END * 0.104
        + CASE WHEN spot IS NULL THEN 0 ELSE random_normal(0, 0.0013) END,
    -122.513 + CASE WHEN spot IS NULL THEN random() ELSE mod(spot * 0.7548776662, 1) END * 0.156
        + CASE WHEN spot IS NULL THEN 0 ELSE random_normal(0, 0.0017) END, '', '',
    status, CASE WHEN status IN ('collected', 'filed') THEN '' ELSE 'organisations/bench-' || department END,
    'organisations/bench-' || department, '{}', opened_at, opened_at, opened_at,
    opened_at + (24 + kind * 6) * interval '1 hour',
    CASE WHEN is_open THEN NULL ELSE opened_at + interval '2 days' END, 6, 1, '', 0, 0, '[]', 0, '', false,
    CASE WHEN is_open AND n % 3 = 0 THEN 'people/bench-' || n % 500 ELSE '' END
FROM (
    SELECT n, is_open, kind, ($2::text[])[1 + floor(power(random(), 2) * cardinality($2::text[]))::int] AS zone,
        CASE WHEN is_open THEN (ARRAY['collected', 'filed', 'dispatched', 'dispatched', 'disposed', 'fed_back'])[
            1 + floor(random() * 6)::int] ELSE (ARRAY['closed', 'evaluated', 'evaluated', 'voided'])[
            1 + floor(random() * 4)::int] END AS status,
        CASE WHEN random() < 0.5 THEN floor(power(random(), 2) * 200)::numeric END AS spot,
        floor(power(random(), 2) * 40)::int AS department,
        $5::timestamptz - CASE WHEN is_open THEN random() * interval '60 days' ELSE random() * interval '1000 days' END
            AS opened_at
    FROM (SELECT n, random() < $7::float8 AS is_open, floor(power(random(), 2) * 30)::int AS kind
        FROM generate_series($3::int, $4::int) AS n) AS drawn
) AS made
WHERE NOT (department = 39 AND (zone = ($2::text[])[2] OR zone LIKE ($2::text[])[2] || '-%'))
"""
# One report and six steps for each, so that those tables are as deep as after so many lives.
FILL_HISTORY = """
WITH stored AS (
    SELECT id, status, organisation, opened_at FROM management.events e
    WHERE NOT EXISTS (SELECT FROM management.event_reports r WHERE r.event_id = e.id)
), reported AS (
    INSERT INTO management.event_reports (event_id, revision, kind, source, merged)
    SELECT id, 1, 'request', 'zones/us-ca-sf/requests/bench-' || id, false FROM stored
)
INSERT INTO management.event_steps (
    event_id, revision, action, from_status, to_status, actor, organisation, reason, occurred_at, recorded_at
)
SELECT id, revision, (ARRAY['open', 'file', 'dispatch', 'dispose', 'feed_back', 'verify'])[revision], '', status,
    'people/bench-' || id % 500, organisation, 'done as asked', opened_at, opened_at
FROM stored CROSS JOIN generate_series(1, 6) AS revision
"""


async def store_events(
    node: BenchNode,
    zones: Sequence[str],
    last: int,
    *,
    first: int = 1,
    open_share: float = OPEN_SHARE,
    history: bool = False,
) -> None:
    """Store events `first` to `last` of a node, with steps and reports if `history`; the first zone holds others."""
    async with node.database.dedicated("fill") as conn:
        await conn.execute("SET statement_timeout = 0")
        now = SystemClock().now()
        await conn.execute(FILL, NODE, zones, first, last, now, PHRASES, open_share, timeout=FILL_TIMEOUT_S)
        if history:
            await conn.execute(FILL_HISTORY, timeout=FILL_TIMEOUT_S)
            await conn.execute("VACUUM ANALYZE management.event_steps", timeout=FILL_TIMEOUT_S)
            await conn.execute("VACUUM ANALYZE management.event_reports", timeout=FILL_TIMEOUT_S)
        await conn.execute("VACUUM ANALYZE management.events", timeout=FILL_TIMEOUT_S)
