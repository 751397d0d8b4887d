"""Evidence: what files may be, and what a step must show. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from libs.errors import Invalid, Reason, WrongState
from services.management.model import Need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.management.model import EventType
    from services.management.model_loop import Action

EVIDENCE_NAME = "{event}/evidence/{id}"
UPLOAD_NAME = "{event}/uploads/{id}"
# In JSON a part is a third longer, and must still pass the edge.
PART_BYTES_MAX = 2 * 1024 * 1024
EVIDENCE_PER_EVENT_MAX = 200
UPLOADS_PER_PERSON_MAX = 20
UPLOAD_KEPT = timedelta(hours=24)

_HEAD_BYTES = 16
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"%PDF-", "application/pdf"),
)
# ISO/IEC 14496-12: bytes 4 to 8 are "ftyp", and the brand follows.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1"), "image/heic"),
    b"avif": "image/avif",
    **dict.fromkeys((b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V "), "video/mp4"),
}
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/heic", "image/avif", "application/pdf", "video/mp4")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way. `object` is the name under which its bytes will be kept. A closed one takes no more parts."""

    id: int
    name: str
    event_id: int
    object: str
    file_name: str
    size_bytes: int
    started_by: str
    started_at: datetime
    closed: bool = False

    @property
    def parts(self) -> int:
        """How many parts there must be."""
        return -(-self.size_bytes // PART_BYTES_MAX)

    @property
    def ends_at(self) -> datetime:
        return self.started_at + UPLOAD_KEPT

    @property
    def evidence(self) -> str:
        """The name of the evidence that it becomes."""
        event, _, identifier = self.name.rpartition("/uploads/")
        return EVIDENCE_NAME.format(event=event, id=identifier)

    def part_bytes(self, number: int) -> int:
        """Return how long a part must be."""
        return min(PART_BYTES_MAX, self.size_bytes - (number - 1) * PART_BYTES_MAX)

    def check_part(self, number: int, content: bytes) -> None:
        """Raise Invalid for a part that is not one of the file or not as long as it must be, WrongState when closed."""
        if self.closed:
            raise WrongState(Reason.UPLOAD_CLOSED, f"{self.name} is being finished", name=self.name)
        if number > self.parts:
            raise Invalid("number", f"must be at most {self.parts}")
        if len(content) != self.part_bytes(number):
            raise Invalid("content", f"part {number} must be {self.part_bytes(number)} bytes, not {len(content)}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One photo or file. `step` is the revision of the step that shows it, 0 for none."""

    name: str
    object: str
    file_name: str
    media_type: str
    size_bytes: int
    sha256: bytes
    uploaded_by: str
    uploaded_at: datetime
    id: int = 0
    step: int = 0

    @property
    def is_photo(self) -> bool:
        return self.media_type.startswith("image/")


def media_type(content: bytes) -> str:
    """Return what a file is, by its first bytes. Raises Invalid for anything but MEDIA_TYPES."""
    head = content[:_HEAD_BYTES]
    for offset, signature, found in _SIGNATURES:
        if head[offset:].startswith(signature):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and (brand := _BRANDS.get(head[8:12])):
        return brand
    raise Invalid("content", f"is none of {', '.join(MEDIA_TYPES)} by its first bytes")


def needed(action: Action, event_type: EventType) -> Need:
    """Return what a step must show: what its loop asks for and what the type does, whichever is more."""
    of_type = event_type.evidence.get(action.action, Need())
    return Need(max(action.needs_evidence, of_type.evidence), max(action.needs_photos, of_type.photos))


def check_shown(action: str, need: Need, names: Sequence[str], shown: Sequence[Evidence]) -> None:
    """Raise unless a step may show what it names, and that is enough.

    `shown` is what there is of `names` at the event. Raises Invalid, with EVIDENCE_MISSING as reason when it is too
    little, and WrongState for what an earlier step has shown.
    """
    there = {each.name: each for each in shown}
    for place, name in enumerate(names):
        if name not in there or name in names[:place]:
            raise Invalid(f"evidence[{place}]", "must be evidence of this event, named once")
        if there[name].step:
            text = f"{name} is shown by step {there[name].step} already"
            raise WrongState(Reason.EVIDENCE_MISSING, text, evidence=name, step=str(there[name].step))
    photos = sum(each.is_photo for each in shown)
    if photos < need.photos:
        rule = f"{action} needs {need.photos} photos, new ones; there are {photos}"
        raise Invalid("evidence", rule, reason=Reason.EVIDENCE_MISSING)
    if len(shown) < need.evidence:
        rule = f"{action} needs {need.evidence} pieces of evidence, new ones; there are {len(shown)}"
        raise Invalid("evidence", rule, reason=Reason.EVIDENCE_MISSING)
