"""The servicer of FollowUpService."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Exhausted, Forbidden, Invalid, NotFound, Reason, WrongState
from libs.personal_text import mask_text
from quintet.management.v1 import follow_ups_pb2 as pb
from quintet.management.v1.follow_ups_pb2_grpc import FollowUpServiceServicer
from services.management.convert import zone_of
from services.management.followup import store
from services.management.followup.convert import (
    OUTCOMES,
    follow_up_pb,
    period_pb,
    policy_of,
    policy_pb,
    state_of,
)
from services.management.followup.facts import keep, month_of
from services.management.followup.model import Answer, State, Way, claimed, months, present, recorded, released
from services.management.followup.store import Query

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from libs.access import Caller
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.followup.model import FollowUp
    from services.management.service_base import Context

WRITE_POLICIES = "management.follow_up_policies.write"
READ = "management.follow_ups.read"
CALL = "management.follow_ups.call"
ASSIGN = "management.work.assign"
PEOPLE = "people/"
PAGE_SIZE = 50
PAGE_SIZE_MAX = 500
MONTHS_MAX = 36


class FollowUpServicer(FollowUpServiceServicer):
    """Follow-up of one node."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], timezone: ZoneInfo) -> None:
        """`timezone` says when a month ends."""
        self._transactions = transactions
        self._zones = zones
        self._timezone = timezone

    # ------------------------------------------------------------------------------------------ policies and draws

    async def PutFollowUpPolicy(
        self, request: pb.PutFollowUpPolicyRequest, _context: Context
    ) -> pb.PutFollowUpPolicyResponse:
        return await self._transactions.mutate(request, pb.PutFollowUpPolicyResponse, partial(self._put, request))

    async def _put(self, request: pb.PutFollowUpPolicyRequest, tx: Tx) -> pb.PutFollowUpPolicyResponse:
        tree = self._zones()
        wanted = policy_of(request.policy, tree)
        problems = [
            (f"policy.title.{language}", "is required: people read both languages")
            for language in ("zh", "en")
            if not getattr(wanted.title, language)
        ]
        for place, zone in enumerate(wanted.zones):
            if not tree.covers(tree.root, zone):
                problems.append((f"policy.zones[{place}]", f"{zone} is not a zone of this node"))
        if wanted.form_hours and not wanted.form:
            problems.append(("policy.formHours", "is for policies with a form"))
        if problems:
            raise Invalid.many(problems)
        # A policy decides about all zones of the node, so whoever writes it needs the right in the whole node.
        caller = current_caller()
        caller.require(WRITE_POLICIES, zone=tree.root)
        changed = await store.policy(tx.conn, wanted.name) != wanted
        if changed:
            await store.put_policy(tx.conn, wanted, actor=caller.subject, now=tx.now)
            tx.audit("management.follow_up_policies.put", wanted.name, share=wanted.share, tries=wanted.tries)
        if len(await store.policies(tx.conn)) > store.POLICIES_MAX:
            raise Exhausted(Reason.QUOTA, f"a node has at most {store.POLICIES_MAX} policies")
        return pb.PutFollowUpPolicyResponse(policy=policy_pb(wanted), changed=changed)

    async def ListFollowUpPolicies(
        self, _request: pb.ListFollowUpPoliciesRequest, _context: Context
    ) -> pb.ListFollowUpPoliciesResponse:
        found = await self._transactions.look(store.policies)
        return pb.ListFollowUpPoliciesResponse(policies=[policy_pb(each) for each in found])

    async def ListFollowUpPeriods(
        self, _request: pb.ListFollowUpPeriodsRequest, _context: Context
    ) -> pb.ListFollowUpPeriodsResponse:
        found = await self._transactions.look(store.periods)
        month = self._month()
        return pb.ListFollowUpPeriodsResponse(periods=[period_pb(each, month) for each in found])

    # ----------------------------------------------------------------------------------------------------- reading

    async def ListFollowUps(self, request: pb.ListFollowUpsRequest, _context: Context) -> pb.ListFollowUpsResponse:
        tree = self._zones()
        zone = tree.canonical(zone_of(request.parent))
        caller = current_caller()
        caller.require(READ, zone=zone)
        query = Query(
            zones=tree.codes(zone),
            state=state_of(request.state) or State.OPEN,
            due=self._transactions.clock.now() if request.due else None,
            caller=caller.subject if request.mine else "",
            event=request.event,
            now=self._transactions.clock.now(),
        )
        of = f"follow-ups {zone} {query.state} {request.due} {query.caller} {query.event}"
        size = paging.size(request.page_size, default=PAGE_SIZE, most=PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, str, of=of)
        rows = await self._transactions.look(
            lambda conn: store.list_follow_ups(conn, query, after=after, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda found: (found.call_at, found.name), of=of)
        return pb.ListFollowUpsResponse(
            follow_ups=[follow_up_pb(present(each, query.now)) for each in page], next_page_token=token
        )

    async def GetFollowUp(self, request: pb.GetFollowUpRequest, _context: Context) -> pb.GetFollowUpResponse:
        found = await self._transactions.look(lambda conn: store.get(conn, request.name))
        if found is None:
            raise _missing(request.name)
        current_caller().require(READ, zone=found.zone)
        return pb.GetFollowUpResponse(follow_up=follow_up_pb(present(found, self._transactions.clock.now())))

    async def CountFollowUps(self, request: pb.CountFollowUpsRequest, _context: Context) -> pb.CountFollowUpsResponse:
        tree = self._zones()
        zone = tree.canonical(zone_of(request.parent))
        current_caller().require(READ, zone=zone)
        month = self._month()
        first, last = request.first_period or request.last_period or month, request.last_period or month
        if not 1 <= months(first, last) <= MONTHS_MAX:
            raise Invalid("lastPeriod", f"must not be before firstPeriod, and end at most {MONTHS_MAX} months from it")
        rows = await self._transactions.look(
            lambda conn: store.counts(conn, tree.codes(zone), first, last, request.organisation)
        )
        return pb.CountFollowUpsResponse(counts=[pb.FollowUpCount(**dict(row)) for row in rows])

    # ------------------------------------------------------------------------------------------------------- calls

    async def ClaimFollowUp(self, request: pb.ClaimFollowUpRequest, _context: Context) -> pb.ClaimFollowUpResponse:
        return await self._transactions.mutate(request, pb.ClaimFollowUpResponse, partial(self._claim, request))

    async def _claim(self, request: pb.ClaimFollowUpRequest, tx: Tx) -> pb.ClaimFollowUpResponse:
        found, caller = await self._lock(tx, request.name)
        after = claimed(found, subject=caller.subject, organisations=caller.grants.organisations, now=tx.now)
        await store.update(tx.conn, after)
        tx.audit("management.follow_ups.claim", after.name)
        return pb.ClaimFollowUpResponse(follow_up=follow_up_pb(after))

    async def ReleaseFollowUp(
        self, request: pb.ReleaseFollowUpRequest, _context: Context
    ) -> pb.ReleaseFollowUpResponse:  # fmt: skip
        return await self._transactions.mutate(request, pb.ReleaseFollowUpResponse, partial(self._release, request))

    async def _release(self, request: pb.ReleaseFollowUpRequest, tx: Tx) -> pb.ReleaseFollowUpResponse:
        found, caller = await self._lock(tx, request.name)
        after = released(found, tx.now)
        if found.caller != caller.subject:
            caller.require(ASSIGN, zone=found.zone)
        await store.update(tx.conn, after)
        tx.audit("management.follow_ups.release", after.name, before=found.caller)
        return pb.ReleaseFollowUpResponse(follow_up=follow_up_pb(after))

    async def RecordFollowUp(self, request: pb.RecordFollowUpRequest, _context: Context) -> pb.RecordFollowUpResponse:
        return await self._transactions.mutate(request, pb.RecordFollowUpResponse, partial(self._record, request))

    async def _record(self, request: pb.RecordFollowUpRequest, tx: Tx) -> pb.RecordFollowUpResponse:
        found, caller = await self._lock(tx, request.name)
        policy = await store.policy(tx.conn, found.policy)
        if policy is None:
            raise WrongState(Reason.WRONG_STATE, f"{found.policy}, which drew {found.name}, is gone", name=found.name)
        answer = Answer(
            OUTCOMES[request.outcome],
            request.satisfaction,
            mask_text(request.note).text,
            Way.PERSON,
            caller.subject,
        )
        after = recorded(found, answer, policy, organisations=caller.grants.organisations, now=tx.now)
        await keep(tx, after)
        return pb.RecordFollowUpResponse(follow_up=follow_up_pb(after))

    async def _lock(self, tx: Tx, name: str) -> tuple[FollowUp, Caller]:
        """Return a follow-up of this node, locked, and the caller, who may call.

        Raises NotFound; Forbidden; WrongState when another node asks.
        """
        found = await store.lock(tx.conn, name)
        if found is None:
            raise _missing(name)
        caller = current_caller()
        caller.require(CALL, zone=found.zone)
        if not caller.subject.startswith(PEOPLE):
            raise Forbidden(Reason.NOT_PERMITTED, "only people call people", permission=CALL)
        if found.node != self._transactions.node:
            text = f"{name} is a matter of node {found.node}"
            raise WrongState(Reason.NOT_AUTHORITATIVE, text, name=name, node=found.node)
        return found, caller

    def _month(self) -> str:
        return month_of(self._transactions.clock.now(), self._timezone)


def _missing(name: str) -> NotFound:
    return NotFound(Reason.FOLLOW_UP_NOT_FOUND, f"{name} does not exist", name=name)
