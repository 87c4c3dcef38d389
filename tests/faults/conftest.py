"""What tests of other folders offer as well."""

from tests.integration.conftest import stored_run

__all__ = ["stored_run"]
