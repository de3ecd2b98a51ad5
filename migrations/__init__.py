"""The schema's history: numbered Alembic revisions for tables, `coordination/sql` for functions."""
