"""Speed: what hot calls read and write is narrow, and where they find it."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# The functions that belong to these tables: sha256 over coordination/sql (see migrations/functions.py).
functions = "6277d507932af0d6"


def upgrade() -> None:
    """Change the tables; functions, ownership and grants follow once all revisions have run."""
    op.execute(text(Path(__file__).with_suffix(".sql").read_text("utf-8").replace(":", "\\:")))


def downgrade() -> None:
    """Refuse: the older program doesn't know what these tables hold."""
    raise RuntimeError("the older program doesn't know what these tables hold: restore a backup instead")
