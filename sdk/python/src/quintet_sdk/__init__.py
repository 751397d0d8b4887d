"""A thin client for the services of a Quintet node.

    async with Client("https://node.example:8443") as client:
        await client.sign_in("resident.01", password)
        answer = await client.requests.FileRequest(FileRequestRequest(..., request_id=new_request_id()))

The requests and answers are the generated messages of the package `quintet`.
"""

from quintet_sdk._client import Client, new_request_id
from quintet_sdk._errors import QuintetError, Violation

__all__ = ["Client", "QuintetError", "Violation", "new_request_id"]
