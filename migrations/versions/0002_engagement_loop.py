"""The engagement loop: tiers and policy, messages, candidates, interactions, health snapshots."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The functions that belong to these tables: sha256 over coordination/sql (see migrations/functions.py).
functions = "4dc65793b608596e"


def upgrade() -> None:
    """Add the tables; functions, ownership and grants follow once all revisions have run."""
    op.execute(text(Path(__file__).with_suffix(".sql").read_text("utf-8").replace(":", "\\:")))


def downgrade() -> None:
    """Refuse: the older program doesn't know replies, quotes and likes that the ledger may hold."""
    raise RuntimeError(
        "the ledger may hold acts that the older program doesn't know: restore a backup instead"
    )
