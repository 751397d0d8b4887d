"""Plans are tried at the same node as warnings, which activate them."""

from services.management.warnings.tests.conftest import centre

__all__ = ["centre"]
