"""The routes whose bodies are bytes: the adapters of the edge serve them, and no google.api.http can say so.

Who may call one, and the rules of what it takes, are those of the method that decides about it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class RawAnswer:
    """What is answered under one status: a message as JSON, by its full name, or bytes of `media_types`, or nothing."""

    status: str
    description: str
    message: str = ""
    media_types: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawRoute:
    """One route. `template` and `query` name fields of the request of `method`; `body` is the media type it takes."""

    operation: str
    verb: str
    template: str
    method: str
    description: str
    answers: tuple[RawAnswer, ...]
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: str = ""


# What headers of requests and answers mean, wherever they stand.
HEADERS = {
    "Range": "One span of bytes, for example `bytes=0-1023`; of several the whole file is answered.",
    "If-Range": "The ETag of what the caller has a part of: when it is another file now, all of it is answered.",
    "If-None-Match": "The ETag of what the caller has: when it is the same, 304 is answered without the bytes.",
    "Location": "Where the bytes can be read.",
    "ETag": "The SHA-256 of the file, in hex.",
    "Accept-Ranges": "`bytes`.",
    "Content-Disposition": "`attachment`, with the name of the file.",
    "Content-Range": "Which bytes of how many.",
    "Retry-After": "After how many seconds to try again.",
}
_STATUS = "google.rpc.Status"
_EVIDENCE = "quintet.management.v1.EvidenceService"
_MEDIA_TYPES = (
    *(f"image/{kind}" for kind in ("jpeg", "png", "webp", "heic", "avif")),
    "application/pdf",
    "video/mp4",
)
_FILE_HEADERS = ("ETag", "Accept-Ranges", "Content-Disposition")
_BUSY = RawAnswer("503", "Too many files are on their way now.", _STATUS, headers=("Retry-After",))

RAW_ROUTES = (
    RawRoute(
        operation="UploadFile",
        verb="post",
        template="/v1/{parent=zones/*/events/*}/evidence",
        method=f"{_EVIDENCE}.StartUpload",
        description=(
            "UploadFile takes a photo, a document or a film as it is, at most 20971520 bytes, in one request: "
            "StartUpload, UploadPart and FinishUpload in one. Content-Length must say how long it is. What it is is "
            "told by its bytes, not by Content-Type."
        ),
        query=("file_name", "request_id"),
        body="application/octet-stream",
        answers=(
            RawAnswer(
                "201", "The evidence, as FinishUpload answers.", "quintet.management.v1.FinishUploadResponse",
                headers=("Location",),
            ),
            RawAnswer("408", "The file did not come in time.", _STATUS),
            RawAnswer("411", "Content-Length is missing.", _STATUS),
            _BUSY,
        ),
    ),
    RawRoute(
        operation="DownloadFile",
        verb="get",
        template="/v1/{name=zones/*/events/*/evidence/*}/content",
        method=f"{_EVIDENCE}.GetEvidence",
        description="DownloadFile gives a piece of evidence as it is, or a span of its bytes.",
        headers=("Range", "If-Range", "If-None-Match"),
        answers=(
            RawAnswer("200", "All of its bytes.", media_types=_MEDIA_TYPES, headers=_FILE_HEADERS),
            RawAnswer(
                "206", "The bytes that were asked for.", media_types=_MEDIA_TYPES,
                headers=(*_FILE_HEADERS, "Content-Range"),
            ),
            RawAnswer("304", "The caller has it already.", headers=_FILE_HEADERS),
            RawAnswer("416", "It has no such bytes.", _STATUS, headers=("Content-Range",)),
            _BUSY,
        ),
    ),
)  # fmt: skip
