"""A contract between two cities as their data stewards make it: the daily air quality of Beijing for its partner."""

from typing import Any

from e2e.federation import Caller, until

FIELDS = ("station", "day", "pm25_mean")


def negotiate(consumer: Caller, provider: Caller, purpose: str, *, zone: str = "") -> str:
    """Requested, agreed, verified and then finalised, for a zone or that of the product; return the contract's name."""
    offered = consumer.get("/v1/peers/beijing/products")["products"]
    product = next(product for product in offered if product["name"] == "products/pm25-daily")
    terms = {
        "product": product["name"],
        "productVersion": product["version"],
        "fields": [{"field": field} for field in FIELDS],
        "zone": zone or product["zone"],
        "purpose": purpose,
    }
    requested = consumer.post("/v1/contracts:request", {"peer": "peers/beijing", "terms": terms})
    name: str = requested["contract"]["name"]
    until_state(provider, name, "REQUESTED")
    provider.post(f"/v1/{name}:agree")
    until_state(consumer, name, "AGREED")
    consumer.post(f"/v1/{name}:verify")
    for side in (consumer, provider):
        until_state(side, name, "FINALIZED")
    return name


def until_state(side: Caller, name: str, state: str) -> None:
    """Wait until a side sees the contract in this state, "AGREED"."""

    def reached() -> bool:
        listed: list[Any] = side.get("/v1/contracts", pageSize=500)["contracts"]
        return any(found["name"] == name and found["state"] == f"CONTRACT_STATE_{state}" for found in listed)

    until(f"{name} {state}", reached)
