"""PerceptionService, put together from what its files do for each kind of resource."""

from __future__ import annotations

from quintet.perception.v1.perception_pb2_grpc import PerceptionServiceServicer
from services.perception.service_catalogue import CatalogueMethods
from services.perception.service_readings import ReadingMethods
from services.perception.service_warnings import WarningMethods


class PerceptionServicer(CatalogueMethods, ReadingMethods, WarningMethods, PerceptionServiceServicer):
    """The whole service."""
