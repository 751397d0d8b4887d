"""The servicer of WorkListService, made of the methods for each subject."""

from __future__ import annotations

from quintet.management.v1.worklists_pb2_grpc import WorkListServiceServicer
from services.management.worklists.service_bulk import BulkMethods
from services.management.worklists.service_filters import FilterMethods
from services.management.worklists.service_watch import WatchMethods


class WorkListServicer(WatchMethods, BulkMethods, FilterMethods, WorkListServiceServicer):
    """Who has what to do now (工作台)."""
