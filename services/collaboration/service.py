"""CollaborationService, put together from what its files do for each kind of resource."""

from __future__ import annotations

from quintet.collaboration.v1.collaboration_pb2_grpc import CollaborationServiceServicer
from services.collaboration.service_channels import ChannelMethods
from services.collaboration.service_tasks import TaskMethods


class CollaborationServicer(ChannelMethods, TaskMethods, CollaborationServiceServicer):
    """The whole service."""
