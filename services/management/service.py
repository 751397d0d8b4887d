"""The servicer of quintet.management.v1, made of the methods for each resource."""

from __future__ import annotations

from quintet.management.v1.management_pb2_grpc import ManagementServiceServicer
from services.management.service_events import EventMethods
from services.management.service_joint import JointMethods
from services.management.service_types import EventTypeMethods


class ManagementServicer(EventTypeMethods, EventMethods, JointMethods, ManagementServiceServicer):
    """One event, handled once and well (一网统管)."""
