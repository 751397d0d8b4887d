"""The node that the tests of the whole service use."""

from services.management.tests.conftest import city, make_node

__all__ = ["city", "make_node"]
