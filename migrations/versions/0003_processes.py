"""Processes: hosts and their shares, commands slot by slot, proof of death, alerts, black boxes."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The functions that belong to these tables: sha256 over coordination/sql (see migrations/functions.py).
functions = "d90742b0ec5eae1d"


def upgrade() -> None:
    """Add the tables; functions, ownership and grants follow once all revisions have run."""
    op.execute(text(Path(__file__).with_suffix(".sql").read_text("utf-8").replace(":", "\\:")))


def downgrade() -> None:
    """Refuse: the older program's managers would each run every slot."""
    raise RuntimeError(
        "the older program knows no shares: each of its managers would run every slot; "
        "restore a backup instead"
    )
