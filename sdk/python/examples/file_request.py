"""Files a request as a resident and follows it until a department has it.

QUINTET_URL=http://127.0.0.1:8080 QUINTET_LOGIN=resident.01 QUINTET_PASSWORD=... python file_request.py
"""

import asyncio
import os

from quintet.common.v1.common_pb2 import Place
from quintet.delivery.v1.delivery_pb2 import FileRequestRequest, GetRequestRequest, RequestStatus
from quintet.management.v1.management_pb2 import ListEventTypesRequest
from quintet_sdk import Client, new_request_id

FOLLOW_S = 60


async def main() -> None:
    async with Client(os.environ.get("QUINTET_URL", "http://127.0.0.1:8080")) as quintet:
        who = await quintet.sign_in(os.environ["QUINTET_LOGIN"], os.environ["QUINTET_PASSWORD"])
        (kind,) = (await quintet.management.ListEventTypes(ListEventTypesRequest(page_size=1))).event_types
        answer = await quintet.requests.FileRequest(
            FileRequestRequest(
                type=kind.name,
                description="Broken glass on the pavement",
                place=Place(address="1200 18th Street", neighbourhood="Potrero Hill", zone_hint="10"),
                request_id=new_request_id(),
            )
        )
        filed = answer.request
        print(f"{who} filed {filed.number} ({filed.name})")
        for _ in range(FOLLOW_S):
            request = (await quintet.requests.GetRequest(GetRequestRequest(name=filed.name))).request
            print(RequestStatus.Name(request.status), request.event)
            if request.status > RequestStatus.REQUEST_STATUS_RECEIVED:
                break
            await asyncio.sleep(1)
        else:
            raise SystemExit(f"no department has {filed.number} after {FOLLOW_S} seconds")
        await quintet.sign_out()


asyncio.run(main())
