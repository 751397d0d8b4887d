"""What a node serves behind its edge besides the API itself: keys, health, metrics, pages to read.

An ASGI application for 127.0.0.1; Envoy stands before it. It calls the services as `services/gateway`.
"""

from gateway.adapters.app import build_app
from gateway.adapters.server import AdapterServer
from gateway.adapters.sources import NodeFacts, Probe, Sources, Watched

__all__ = ["AdapterServer", "NodeFacts", "Probe", "Sources", "Watched", "build_app"]
