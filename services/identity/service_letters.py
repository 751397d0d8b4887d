"""Dead letters: the third part of IdentityService. Every service keeps its own; here people find them together."""

from collections.abc import Mapping

import grpc

from libs import names, paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason
from quintet.deadletter.v1 import deadletter_pb2
from quintet.deadletter.v1.deadletter_pb2_grpc import DeadLetterServiceStub
from quintet.identity.v1 import identity_pb2, identity_pb2_grpc

LETTER = "parts/{part}/deadLetters/{letter}"
READ = "identity.dead_letters.read"
MANAGE = "identity.dead_letters.manage"


class LetterMethods(identity_pb2_grpc.IdentityServiceServicer):
    """The methods of IdentityService that are about dead letters."""

    def __init__(self, parts: Mapping[str, grpc.aio.Channel]) -> None:
        """`parts` are the channels to the services, with identity's own token."""
        self._letters = {part: DeadLetterServiceStub(channel) for part, channel in sorted(parts.items())}

    async def ListDeadLetters(
        self, request: identity_pb2.ListDeadLettersRequest, _context: object
    ) -> identity_pb2.ListDeadLettersResponse:
        current_caller().require(READ)
        if request.part and request.part not in self._letters:
            raise Invalid("part", f"must be one of {', '.join(self._letters)}")
        listed = f"dead letters {request.part}"
        part, after = paging.after(request.page_token, str, str, of=listed) or ("", "")
        size = paging.size(request.page_size)
        found: list[deadletter_pb2.DeadLetter] = []
        for each in [request.part] if request.part else self._letters:
            if each < part or len(found) > size:
                continue
            asked = deadletter_pb2.ListPartDeadLettersRequest(
                page_size=min(size + 1 - len(found), paging.PAGE_SIZE_MAX), after=after if each == part else ""
            )
            found += (await self._letters[each].ListPartDeadLetters(asked)).letters
        page, token = paging.page(found, size, lambda letter: (letter.part, letter.fact), of=listed)
        return identity_pb2.ListDeadLettersResponse(letters=page, next_page_token=token)

    async def RetryDeadLetter(
        self, request: identity_pb2.RetryDeadLetterRequest, _context: object
    ) -> identity_pb2.RetryDeadLetterResponse:
        stub, fact = self._named(request.name)
        asked = deadletter_pb2.RetryPartDeadLetterRequest(fact=fact, person=current_caller().subject)
        await stub.RetryPartDeadLetter(asked)
        return identity_pb2.RetryDeadLetterResponse()

    async def DiscardDeadLetter(
        self, request: identity_pb2.DiscardDeadLetterRequest, _context: object
    ) -> identity_pb2.DiscardDeadLetterResponse:
        stub, fact = self._named(request.name)
        person = current_caller().subject
        asked = deadletter_pb2.DiscardPartDeadLetterRequest(fact=fact, person=person, reason=request.reason)
        await stub.DiscardPartDeadLetter(asked)
        return identity_pb2.DiscardDeadLetterResponse()

    def _named(self, name: str) -> tuple[DeadLetterServiceStub, str]:
        """Return whom to ask about a letter and its fact. Raises Forbidden and NotFound."""
        current_caller().require(MANAGE)
        found = names.parse(name, LETTER)
        if found["part"] not in self._letters:
            raise NotFound(Reason.DEAD_LETTER_NOT_FOUND, f"{name} does not exist", name=name)
        return self._letters[found["part"]], found["letter"]
