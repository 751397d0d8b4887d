"""The nodes of management's tests."""

from services.management.tests.conftest import city, make_node

__all__ = ["city", "make_node"]
