"""Plans put into action, by people and by warnings, and every change of a run stated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs import names
from libs.ids import new_id
from quintet.management.v1.facts_pb2 import PlanRunChanged
from services.management.model import Explanation
from services.management.plans import store_plans, texts
from services.management.plans.across import direct
from services.management.plans.convert_plans import change_pb, run_pb
from services.management.plans.model_plan import PLAN_RUN_NAME, Change, ChangeKind, Plan, Run, standing
from services.management.warnings.convert_indicators import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.management.v1 import plans_pb2 as pb
    from quintet.management.v1.facts_pb2 import PublicWarningPublished

# Who acts where a warning and no person is the cause.
ACTOR = "services/management"


async def activate(
    tx: Tx,
    plan: Plan,
    zone: str,
    tree: ZoneTree,
    *,
    actor: str,
    note: str,
    warning: str = "",
    explanation: Explanation | None = None,
) -> Run | None:
    """Put a plan into action, at other nodes too; None when it answers the warning already."""
    first = Change(1, tx.now, ChangeKind.ACTIVATED, actor, note=note)
    name = names.build(PLAN_RUN_NAME, zone=zone, run=new_id())
    run = Run(name, zone, plan, (first,), warning, explanation)
    if not await store_plans.activate(tx.conn, run):
        return None
    state(tx, run)
    await direct(tx, run, tree)
    return run


def state(tx: Tx, run: Run) -> pb.PlanRun:
    """State the last change of a run, with its audit entry, and return the run as it is after it."""
    change = run.changes[-1]
    found = standing(run, change.at)
    if found is None:
        raise ValueError(f"{run.name} was never activated")
    shown = run_pb(run, found, change.number)
    tx.publish(PlanRunChanged(run=shown, change=change_pb(change)), zone=run.zone, key=run.name)
    tx.audit(f"management.plan_runs.{change.kind}", run.name, plan=run.plan.name, step=change.step)
    return shown


class WarningPlans:
    """Activates the plans that answer a warning of this node's centre, when it is published or grows graver."""

    def __init__(self, zones: Callable[[], ZoneTree]) -> None:
        self._zones = zones

    async def published(self, tx: Tx, fact: Fact, message: PublicWarningPublished) -> None:
        warning = message.warning
        # A drill is not a danger, and peers activate their own plans.
        if fact.received_from or warning.exercise:
            return
        tree = self._zones()
        for plan in await store_plans.page(tx.conn, after="", limit=store_plans.PLANS_MAX):
            if plan.retired or plan.trigger is None or plan.level != warning.level:
                continue
            if plan.trigger.category != CATEGORIES[warning.category]:
                continue
            touched = [
                zone
                for zone in plan.trigger.zones
                if any(tree.covers(zone, one) or tree.covers(one, zone) for one in warning.zones)
            ]
            if touched:
                why = _why(plan, touched[0], warning.name)
                await activate(
                    tx,
                    plan,
                    touched[0],
                    tree,
                    actor=ACTOR,
                    note=f"{why.zh}\n{why.en}",
                    warning=warning.name,
                    explanation=why,
                )


def _why(plan: Plan, zone: str, warning: str) -> Explanation:
    category = plan.trigger.category if plan.trigger else ""

    def said(language: str) -> str:
        return str(getattr(texts.TRIGGERED, language)).format(
            zone=zone,
            category=category,
            level=getattr(texts.LEVELS[plan.level], language),
            plan=getattr(plan.title, language),
        )

    inputs = {"warning": warning, "zone": zone, "category": category, "level": str(plan.level)}
    return Explanation(plan.name, said("zh"), said("en"), inputs)
