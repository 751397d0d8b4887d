"""The service hall: the catalogue is searched in Chinese, one item applied for, approved, and certified."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.json_format import MessageToDict

from demo.calls import ask
from demo.people import Clients
from quintet.delivery.v1 import delivery_pb2 as pb
from quintet_sdk import new_request_id

NODE = "sf"
RESIDENT = "resident.01"
QUERIES = ("社会保障卡", "登记", "残疾人证")


@dataclass(slots=True)
class Hall:
    """What the hall did. found is the number of items by the words searched for, issuer_keys are public JWKs."""

    clients: Clients
    found: dict[str, int]
    certificate: str = ""
    credential: str = ""
    issuer_keys: list[dict[str, str]] = field(default_factory=list)
    verified: bool = False
    forgery_refused: bool = False

    @classmethod
    def of(cls, clients: Clients) -> "Hall":
        return cls(clients, {})

    async def run(self) -> None:
        """Search, apply, approve, verify offline."""
        resident = await self.clients.get(NODE, RESIDENT)
        item = ""
        for words in QUERIES:
            search = pb.SearchServiceItemsRequest(query=words, page_size=5)
            answer = await ask(resident.service_items.SearchServiceItems, search)
            self.found[words] = answer.total
            item = item or (answer.service_items[0].name if answer.service_items else "")
        await self._get_certified(item)
        await self._verify()

    async def _get_certified(self, item: str) -> None:
        """Apply for the item and have it approved, unless an earlier run, whose data was kept, did so."""
        resident = await self.clients.get(NODE, RESIDENT)
        approved = pb.ListApplicationsRequest(state=pb.APPLICATION_STATE_APPROVED, page_size=1)
        for before in (await ask(resident.service_items.ListApplications, approved)).applications:
            get = pb.GetCertificateRequest(name=before.certificate)
            certificate = (await ask(resident.service_items.GetCertificate, get)).certificate
            self.certificate, self.credential = certificate.name, certificate.credential
            return
        submit = pb.SubmitApplicationRequest(service_item=item, subject_name="Resident 01", request_id=new_request_id())
        submit.form.update({"reason": "demonstration"})
        application = (await ask(resident.service_items.SubmitApplication, submit)).application
        officer = await self.clients.staff(NODE, "service-officer")
        decide = pb.DecideApplicationRequest(
            name=application.name,
            decision=pb.DECISION_APPROVE,
            reason="All documents are there.",
            request_id=new_request_id(),
        )
        decided = await ask(officer.service_items.DecideApplication, decide)
        self.certificate, self.credential = decided.certificate.name, decided.certificate.credential

    async def _verify(self) -> None:
        resident = await self.clients.get(NODE, RESIDENT)
        keys = await ask(resident.service_items.GetIssuerKeys, pb.GetIssuerKeysRequest())
        self.issuer_keys = [MessageToDict(key) for key in keys.keys]
        self.verified = bool(verify_offline(self.credential, {key.kid: key.x for key in keys.keys}))
        head, body, signature = self.credential.split(".")
        claims = json.loads(_decoded(body)) | {"issuer": "somebody else"}
        forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        self.forgery_refused = not verify_offline(f"{head}.{forged}.{signature}", {key.kid: key.x for key in keys.keys})


def verify_offline(credential: str, keys: dict[str, str]) -> dict[str, Any] | None:
    """The claims of a credential (compact JWS, EdDSA) that one of the keys (kid to base64url) signed; None otherwise.

    Nothing of the node's own code takes part.
    """
    jws = jwt.PyJWS(algorithms=["EdDSA"])
    try:
        kid = jws.get_unverified_header(credential)["kid"]
        payload = jws.decode(credential, Ed25519PublicKey.from_public_bytes(_decoded(keys[kid])), algorithms=["EdDSA"])
    except (jwt.PyJWTError, KeyError, ValueError):
        return None
    claims: dict[str, Any] = json.loads(payload)
    return claims


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
