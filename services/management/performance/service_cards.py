"""Scorecards: their formulas, drafts, publication, corrections and seals."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from libs import names, paging
from libs.access import current_caller
from libs.errors import Exhausted, Invalid, NotFound, Reason, Stale, WrongState
from libs.ids import short_id
from quintet.management.v1 import facts_pb2
from quintet.management.v1 import scorecards_pb2 as pb
from services.management.convert import time_of, zone_of
from services.management.performance import store_cards, store_definitions
from services.management.performance.convert_scorecards import definition_pb, scorecard_pb
from services.management.performance.definition_yaml import DefinitionError, parse_definition
from services.management.performance.making import definition_of
from services.management.performance.model_scorecard import CARD_NAME, PERIOD_MAX, Card, Version
from services.management.performance.service_base import PUBLISH, READ, WRITE, CardMethods, missing

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.management.performance.making import Checked
    from services.management.service_base import Context

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500
_DEFINITIONS = "scorecard definitions"


class MakingMethods(CardMethods):
    """What supervisors do."""

    async def PutScorecardDefinition(
        self, request: pb.PutScorecardDefinitionRequest, _context: Context
    ) -> pb.PutScorecardDefinitionResponse:
        put = partial(self._put, request)
        return await self._transactions.mutate(request, pb.PutScorecardDefinitionResponse, put)

    async def _put(self, request: pb.PutScorecardDefinitionRequest, tx: Tx) -> pb.PutScorecardDefinitionResponse:
        # The formulas may be used in the whole node, so whoever writes them needs the right in the whole node.
        caller = current_caller()
        caller.require(WRITE, zone=self._zones().root)
        try:
            wanted = parse_definition(request.source)
        except DefinitionError as error:
            raise Invalid.many([("source", problem) for problem in error.problems]) from error
        if wanted.name != request.name:
            raise Invalid("source", f"name: is {wanted.name}, and must be {request.name}")
        stored, changed = await store_definitions.put(tx.conn, wanted, actor=caller.subject, now=tx.now)
        if await store_definitions.count(tx.conn) > store_definitions.DEFINITIONS_MAX:
            raise Exhausted(Reason.QUOTA, f"a node has at most {store_definitions.DEFINITIONS_MAX} definitions")
        if changed:
            tx.audit("management.scorecard_definitions.put", stored.name, version=stored.version)
        return pb.PutScorecardDefinitionResponse(definition=definition_pb(stored), changed=changed)

    async def GetScorecardDefinition(
        self, request: pb.GetScorecardDefinitionRequest, _context: Context
    ) -> pb.GetScorecardDefinitionResponse:
        found = await self._transactions.read(lambda conn: definition_of(conn, request.name, request.version))
        return pb.GetScorecardDefinitionResponse(definition=definition_pb(found))

    async def ListScorecardDefinitions(
        self, request: pb.ListScorecardDefinitionsRequest, _context: Context
    ) -> pb.ListScorecardDefinitionsResponse:
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        after = paging.after(request.page_token, str, of=_DEFINITIONS)
        rows = await self._transactions.read(
            lambda conn: store_definitions.page(conn, after=after[0] if after else "", limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda found: (found.name,), of=_DEFINITIONS)
        return pb.ListScorecardDefinitionsResponse(
            definitions=[definition_pb(each) for each in page], next_page_token=token
        )

    # -------------------------------------------------------------------------------------------------------- versions

    async def DraftScorecard(self, request: pb.DraftScorecardRequest, _context: Context) -> pb.DraftScorecardResponse:
        return await self._transactions.mutate(request, pb.DraftScorecardResponse, partial(self._draft, request))

    async def _draft(self, request: pb.DraftScorecardRequest, tx: Tx) -> pb.DraftScorecardResponse:
        tree = self._zones()
        zone = tree.canonical(zone_of(request.parent))
        if not tree.covers(tree.root, zone):
            raise NotFound(Reason.ZONE_NOT_FOUND, f"{request.parent} is not known here", zone=zone)
        caller = current_caller()
        caller.require(WRITE, zone=zone)
        start, end = time_of(request, "period_from"), time_of(request, "period_to")
        if start is None or end is None or end > tx.now:
            raise Invalid("periodTo", "must not lie in the future")
        if not start < end <= start + PERIOD_MAX:
            raise Invalid("periodTo", f"must lie after periodFrom, by {PERIOD_MAX.days} days at most")
        definition = await definition_of(tx.conn, request.definition)
        name = names.build(CARD_NAME, zone=zone, scorecard=short_id())
        card = Card(name, zone, definition.name, definition.version, start, end)
        card = Card(
            name, zone, definition.name, definition.version, start, end, id=await store_cards.insert(tx.conn, card)
        )
        wanted = Version(1, tx.now, "", caller.subject)
        made = await self._maker.draft(tx, card, definition, wanted)
        tx.audit("management.scorecards.draft", card.name, version=1, events=made.totals.events)
        return pb.DraftScorecardResponse(scorecard=scorecard_pb(card, made, definition, 1))

    async def CorrectScorecard(
        self, request: pb.CorrectScorecardRequest, _context: Context
    ) -> pb.CorrectScorecardResponse:
        return await self._transactions.mutate(request, pb.CorrectScorecardResponse, partial(self._correct, request))

    async def _correct(self, request: pb.CorrectScorecardRequest, tx: Tx) -> pb.CorrectScorecardResponse:
        card = await store_cards.get(tx.conn, request.name, lock=True)
        if card is None:
            raise missing(request.name)
        caller = current_caller()
        caller.require(WRITE, zone=card.zone)
        before = await store_cards.version(tx.conn, card, card.published, drafts=False) if card.published else None
        if before is None:
            raise WrongState(Reason.WRONG_STATE, f"{card.name} is not published yet", name=card.name)
        definition = await definition_of(tx.conn, card.definition, card.definition_version)
        wanted = Version(before.number + 1, tx.now, request.reason, caller.subject)
        if request.read_anew:
            made = await self._maker.draft(tx, card, definition, wanted)
        else:
            made = await self._maker.correct(tx, card, definition, before, wanted)
        tx.audit("management.scorecards.correct", card.name, version=made.number, read_anew=request.read_anew)
        return pb.CorrectScorecardResponse(scorecard=scorecard_pb(card, made, definition, made.number))

    async def PublishScorecard(
        self, request: pb.PublishScorecardRequest, _context: Context
    ) -> pb.PublishScorecardResponse:
        return await self._transactions.mutate(request, pb.PublishScorecardResponse, partial(self._publish, request))

    async def _publish(self, request: pb.PublishScorecardRequest, tx: Tx) -> pb.PublishScorecardResponse:
        card = await store_cards.get(tx.conn, request.name, lock=True)
        if card is None:
            raise missing(request.name)
        caller = current_caller()
        caller.require(PUBLISH, zone=card.zone)
        draft = await store_cards.version(tx.conn, card, request.version, drafts=True)
        if draft is None:
            raise missing(request.name)
        if draft.published_at is not None:
            text = f"version {draft.number} of {card.name} is published"
            raise WrongState(Reason.WRONG_STATE, text, name=card.name, version=str(draft.number))
        if draft.as_of != time_of(request, "as_of"):
            text = f"the draft was made anew as of {draft.as_of.isoformat()}"
            raise Stale(Reason.ETAG_STALE, text, name=card.name, as_of=draft.as_of.isoformat())
        definition = await definition_of(tx.conn, card.definition, card.definition_version)
        sealed = await self._maker.publish(tx, card, definition, draft, caller.subject)
        published = await store_cards.get(tx.conn, card.name) or card
        shown = scorecard_pb(published, sealed, definition, sealed.number)
        tx.publish(facts_pb2.ScorecardPublished(scorecard=shown), zone=card.zone, key=card.name)
        tx.audit(
            "management.scorecards.publish", card.name, version=sealed.number, content_hash=sealed.content_hash.hex()
        )  # fmt: skip
        return pb.PublishScorecardResponse(scorecard=shown)

    async def VerifyScorecard(
        self, request: pb.VerifyScorecardRequest, _context: Context
    ) -> pb.VerifyScorecardResponse:
        shown = await self._transactions.read(lambda conn: self._shown(conn, request.name, request.version))
        last = request.version or shown.card.published
        if not last or shown.card.published < last:
            text = f"version {last or 1} of {shown.card.name} is not published yet"
            raise WrongState(Reason.WRONG_STATE, text, name=shown.card.name)
        found = await self._transactions.read(lambda conn: self._maker.check(conn, shown.card, shown.definition, last))
        seals = [_seal_pb(each) for each in found]
        intact = len(seals) == last and not any(seal.faults for seal in seals)
        return pb.VerifyScorecardResponse(intact=intact, versions=seals)

    # --------------------------------------------------------------------------------------------------------- reading

    async def GetScorecard(self, request: pb.GetScorecardRequest, _context: Context) -> pb.GetScorecardResponse:
        shown = await self._transactions.read(lambda conn: self._shown(conn, request.name, request.version))
        latest = shown
        if request.version:
            latest = await self._transactions.read(lambda conn: self._shown(conn, request.name, 0))
        found = scorecard_pb(shown.card, shown.version, shown.definition, latest.version.number)
        return pb.GetScorecardResponse(scorecard=found)

    async def ListScorecards(self, request: pb.ListScorecardsRequest, _context: Context) -> pb.ListScorecardsResponse:
        tree = self._zones()
        zone = tree.canonical(zone_of(request.parent))
        caller = current_caller()
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        of = f"scorecards {zone}"
        after = paging.after(request.page_token, int, of=of)
        codes = tree.codes(zone)
        # Who reads for an organisation sees published scorecards wherever they may score it.
        readable = [code for code in codes if caller.allows(READ, zone=code) or self._scored_in(code)]
        drafts = [code for code in codes if self._drafts(caller, code)]
        rows = await self._transactions.read(
            lambda conn: store_cards.page(
                conn, readable, drafts=drafts, after=after[0] if after else None, limit=size + 1
            )
        )
        page, token = paging.page(rows, size, lambda row: (row[0].id,), of=of)
        cards = []
        for card, version in page:
            definition = await self._transactions.read(
                partial(definition_of, name=card.definition, version=card.definition_version)
            )
            cards.append(scorecard_pb(card, version, definition, version.number))
        return pb.ListScorecardsResponse(scorecards=cards, next_page_token=token)

    def _scored_in(self, zone: str) -> bool:
        """Return whether the caller reads for an organisation in some part of a zone."""
        visible = current_caller().visibility(READ)
        codes = frozenset(self._zones().codes(zone))
        return bool(visible.organisation_everywhere) or any(each in codes for _, each in visible.organisation_zones)


def _seal_pb(found: Checked) -> pb.VersionSeal:
    faults = (
        (found.content_differs, pb.SEAL_FAULT_CONTENT_DIFFERS),
        (found.signature_invalid, pb.SEAL_FAULT_SIGNATURE_INVALID),
        (found.chain_broken, pb.SEAL_FAULT_CHAIN_BROKEN),
    )
    return pb.VersionSeal(
        version=found.version.number,
        content_hash=found.content_hash,
        faults=[fault for is_there, fault in faults if is_there],
    )
