"""What knowledge bases hold; changes of documents are followed as those of answers are"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("knowledge", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("embedder", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("documents_name", "documents", ["tenant", "knowledge", "name"], unique=True)
    op.create_table(
        "chunks",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("document_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("section", sa.Text(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("stop", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("chunks_document", "chunks", ["document_id", "id"])
    op.drop_index("changes_order", "changes")
    op.alter_column("changes", "entry_id", new_column_name="subject")
    op.add_column("changes", sa.Column("kind", sa.String(length=8), server_default="entry", nullable=False))
    op.create_index("changes_order", "changes", ["kind", "xact", "number"])


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM changes WHERE kind <> 'entry'"))
    op.drop_index("changes_order", "changes")
    op.drop_column("changes", "kind")
    op.alter_column("changes", "subject", new_column_name="entry_id")
    op.create_index("changes_order", "changes", ["xact", "number"])
    op.drop_table("chunks")
    op.drop_table("documents")
