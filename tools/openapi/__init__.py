"""Makes the OpenAPI 3.1 document of the REST gateway from the descriptor set of all protos."""

import json

from tools.openapi.document import build
from tools.openapi.source import OpenApiError, Source

__all__ = ["OpenApiError", "document_text"]


def document_text(descriptor_set: bytes) -> str:
    """The document as JSON text, the same bytes for the same protos.

    `descriptor_set` is a serialised FileDescriptorSet with imports and source info. Raises OpenApiError for a method
    that declares no access or no route, and for routes that contradict each other.
    """
    return json.dumps(build(Source(descriptor_set)), ensure_ascii=False, indent=1) + "\n"
