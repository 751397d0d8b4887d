"""Component types as protos, and back."""

from __future__ import annotations

from quintet.common.v1 import common_pb2
from quintet.management.v1 import catalogue_pb2 as pb
from services.management.catalogue.model_components import ComponentType, Owner
from services.management.convert import major_of, major_pb


def component_type_of(found: pb.ComponentType) -> ComponentType:
    """Read a type as somebody wants it; its version is the store's affair."""
    return ComponentType(
        name=found.name,
        title_zh=found.title.zh,
        title_en=found.title.en,
        code=found.code,
        major=major_of(found.major_class),
        owners=tuple(Owner(owner.zone, owner.organisation) for owner in found.owners),
        event_types=tuple(found.event_types),
        retired=found.retired,
    )


def component_type_pb(found: ComponentType) -> pb.ComponentType:
    return pb.ComponentType(
        name=found.name,
        title=common_pb2.LocalText(zh=found.title_zh, en=found.title_en),
        code=found.code,
        major_class=major_pb(found.major),
        owners=[pb.ComponentOwner(zone=owner.zone, organisation=owner.organisation) for owner in found.owners],
        event_types=found.event_types,
        version=found.version,
        retired=found.retired,
    )
