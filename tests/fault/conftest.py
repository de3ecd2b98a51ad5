"""A migrated database for each test, as the integration tests have it."""

from tests.integration.conftest import fleet_database, template

__all__ = ["fleet_database", "template"]
