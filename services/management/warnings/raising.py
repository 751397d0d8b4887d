"""What happens when an indicator crosses a threshold, and when it is back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs import names
from libs.ids import new_id
from services.management.model import Explanation
from services.management.warnings import model_warning, store_warnings, texts
from services.management.warnings.model_indicator import Said
from services.management.warnings.model_warning import (
    PUBLIC_WARNING_NAME,
    UNPUBLISHED,
    Change,
    Content,
    PublicWarning,
    State,
)

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.management.texts import Text
    from services.management.warnings.announcing import Announcer
    from services.management.warnings.model_indicator import Indicator, Threshold, Watched

# Who acts where an indicator and no person is the cause.
ACTOR = "services/management"
RIGHT = "management.public_warnings"


async def raise_warning(
    tx: Tx, announcer: Announcer, indicator: Indicator, threshold: Threshold, zone: str, value: float, watched: Watched
) -> None:
    """Draft a warning, or make the one that the indicator has in the zone graver; publish when the threshold says so.

    What people wrote into it meanwhile stays, but for its level, its headline and why.
    """
    explanation = explain(indicator, threshold, zone, value, watched, tx)
    present = await store_warnings.lock_live(tx.conn, indicator.name, zone)
    if present is None:
        content = Content(
            event=indicator.title,
            headline=threshold.headline,
            description=Said(explanation.zh, explanation.en),
            instruction=threshold.instruction,
            level=threshold.level,
            category=threshold.category,
            certainty="Observed",
            expires_at=model_warning.expiry(tx.now),
            zones=(zone,),
        )
        warning = PublicWarning(
            name=names.build(PUBLIC_WARNING_NAME, zone=zone, warning=new_id()),
            zone=zone,
            state=State.DRAFT,
            created_at=tx.now,
            draft=content,
            drafted_by=ACTOR,
            source=indicator.name,
            explanation=explanation,
        )
    else:
        content = replace(present.latest, level=threshold.level, headline=threshold.headline)
        found = model_warning.graver(present, content, explanation, actor=ACTOR)
        if found is None:
            return
        warning = found
    tx.audit(f"{RIGHT}.raise", warning.name, indicator=indicator.name, level=threshold.level)
    if threshold.publishes and not warning.needs_approval:
        published, change = model_warning.publish(warning, tx.now)
        await announcer.tell(tx, published, change)
    else:
        await store_warnings.put(tx.conn, warning)


async def clear_warning(tx: Tx, announcer: Announcer, indicator: Indicator, zone: str, value: float) -> None:
    """Note that an indicator is back; end the warning that software alone published and nobody has changed since."""
    warning = await store_warnings.lock_live(tx.conn, indicator.name, zone)
    if warning is None:
        return
    if warning.state in UNPUBLISHED or not _published_alone(indicator, warning):
        await store_warnings.put(tx.conn, model_warning.cleared(warning, tx.now))
        return
    zh, en = (
        getattr(texts.BACK, language).format(
            title=getattr(indicator.title, language),
            unit=getattr(indicator.unit, language),
            zone=zone,
            value=number(value),
        )
        for language in ("zh", "en")
    )
    ended = model_warning.end(model_warning.cleared(warning, tx.now), Said(zh, en), tx.now)
    await announcer.tell(tx, ended, Change.ENDED)
    tx.audit(f"{RIGHT}.end", warning.name, indicator=indicator.name)


def _published_alone(indicator: Indicator, warning: PublicWarning) -> bool:
    """Say whether software published what is in force, and nobody has written anything since."""
    publishing = {threshold.level for threshold in indicator.thresholds if threshold.publishes}
    by_software = warning.drafted_by == ACTOR and warning.draft is None
    return by_software and warning.content is not None and warning.content.level in publishing


def explain(
    indicator: Indicator, threshold: Threshold, zone: str, value: float, watched: Watched, tx: Tx
) -> Explanation:  # fmt: skip
    """Say why a threshold was crossed: the rule as it is, and what it saw."""
    since = watched.beyond_since or tx.now
    numbers = {
        "value": number(value),
        "limit": number(threshold.value),
        "clear": number(threshold.clear_value),
        "minimum": str(threshold.minimum_minutes),
        "minutes": str(int((tx.now - since).total_seconds() // 60)),
    }

    def said(language: str) -> str:
        def word(text: Text | Said) -> str:
            return str(getattr(text, language))

        return word(texts.RAISED).format(
            **numbers,
            title=word(indicator.title),
            unit=word(indicator.unit),
            zone=zone,
            side=word(texts.AT_LEAST if threshold.at_least else texts.AT_MOST),
            back=word(texts.FALLS if threshold.at_least else texts.RISES),
            level=word(texts.LEVELS[threshold.level]),
            colour=word(texts.COLOURS[threshold.level]),
        )

    inputs = {**numbers, "zone": zone, "since": since.isoformat(), "version": str(indicator.version)}
    return Explanation(indicator.name, said("zh"), said("en"), inputs)


def number(value: float) -> str:
    """Return a number without needless digits."""
    return f"{value:.10g}"
