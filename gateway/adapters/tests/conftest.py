"""A node's real management behind the adapters."""

from services.management.tests.conftest import city, make_node

__all__ = ["city", "make_node"]
