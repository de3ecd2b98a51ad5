"""The tables of the first release, and the login roles."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The functions that belong to these tables: sha256 over coordination/sql (see migrations/functions.py).
functions = "e848d36d428afc8c"


def upgrade() -> None:
    """Make every table; functions, ownership and grants follow once all revisions have run."""
    op.execute(text(Path(__file__).with_suffix(".sql").read_text("utf-8").replace(":", "\\:")))


def downgrade() -> None:
    """Refuse: the ledger is not something to drop by a command."""
    raise RuntimeError("the first tables hold the ledger: restore a backup instead")
