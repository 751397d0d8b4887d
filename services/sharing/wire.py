"""Between the messages of sharing's proto and its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from quintet.common.v1.common_pb2 import LocalText
from quintet.sharing.v1 import sharing_pb2 as pb
from services.sharing.model import Classification, Field, FieldType, Product, Source, Text
from services.sharing.model_terms import Choice, Masking, Refusal, Terms

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


def stamp_of(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def text_of(message: LocalText) -> Text:
    return Text(message.zh, message.en)


def text_message(text: Text) -> LocalText | None:
    """Return the text; None for an empty one, which is left unset as whoever wrote it had it."""
    return LocalText(zh=text.zh, en=text.en) if text != Text() else None


def product_of(message: pb.Product, node: str) -> Product:
    """Return the product as this node's own; what is output only is left out."""
    source = message.source
    return Product(
        name=message.name,
        node=node,
        title=text_of(message.title),
        description=text_of(message.description),
        owner=message.owner,
        zone=message.zone,
        version=message.version,
        fields=tuple(
            Field(
                name=one.name,
                type=FieldType(one.type),
                title=text_of(one.title),
                unit=one.unit,
                classification=Classification(one.classification),
                personal=one.personal,
                key=one.key,
                subject=one.subject,
            )
            for one in message.fields
        ),
        update_frequency=message.update_frequency,
        offered=message.offered,
        source=Source(source.fact, dict(source.columns), dict(source.where)) if message.HasField("source") else None,
    )


def product_message(product: Product) -> pb.Product:
    source = product.source
    return pb.Product(
        name=product.name,
        title=text_message(product.title),
        description=text_message(product.description),
        owner=product.owner,
        zone=product.zone,
        version=product.version,
        fields=[
            pb.Field(
                name=one.name,
                type=pb.FieldType.ValueType(one.type),
                title=text_message(one.title),
                unit=one.unit,
                classification=pb.Classification.ValueType(one.classification),
                personal=one.personal,
                key=one.key,
                subject=one.subject,
            )
            for one in product.fields
        ],
        update_frequency=product.update_frequency,
        offered=product.offered,
        source=pb.ProductSource(fact=source.fact, columns=source.columns, where=source.where) if source else None,
        node=product.node,
        rows=product.rows,
        updated_at=stamp_of(product.updated_at) if product.updated_at else None,
    )


def terms_of(messages: Iterable[pb.FieldTerms]) -> list[Terms]:
    known = {int(masking): masking for masking in Masking}
    return [Terms(one.field, known.get(one.masking), one.keep, one.step, one.unit) for one in messages]


def choice_of(request: pb.CheckTermsRequest) -> Choice:
    wanted = request.filter
    timed = wanted.HasField("not_before") or wanted.HasField("before")
    return Choice(
        where=dict(wanted.where),
        time_field=wanted.time_field if timed else "",
        zones=tuple(zone for zone in (request.zone, *wanted.zones) if zone),
        count_field=request.aggregation.count_field if request.HasField("aggregation") else "",
    )


def refusal_message(refusal: Refusal) -> pb.Refusal:
    return pb.Refusal(field=refusal.field, reason=refusal.reason, description=refusal.description)
