"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

# The functions that belong to these tables: sha256 over coordination/sql (see migrations/functions.py).
functions = ""


def upgrade() -> None:
    """Say what changes."""
    ${upgrades if upgrades else "op.get_bind()"}
