"""Makes the OpenAPI 3.1 document of the REST gateway from the descriptor set of all protos."""

import json
from collections.abc import Iterable

from tools.openapi.document import build
from tools.openapi.raw import RAW_ROUTES, RawRoute
from tools.openapi.source import OpenApiError, Source

__all__ = ["RAW_ROUTES", "OpenApiError", "document_text"]


def document_text(descriptor_set: bytes, raw_routes: Iterable[RawRoute] = ()) -> str:
    """The document as JSON text, the same bytes for the same protos.

    `descriptor_set` is a serialised FileDescriptorSet with imports and source info; `raw_routes` are those that no
    proto declares. Raises OpenApiError for a method that declares no access or no route, and for routes that
    contradict each other.
    """
    return json.dumps(build(Source(descriptor_set), raw_routes), ensure_ascii=False, indent=1) + "\n"
