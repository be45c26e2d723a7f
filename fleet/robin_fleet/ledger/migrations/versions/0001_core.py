"""Robots, blobs, samples, quarantine, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "robots",
        sa.Column("robot", sa.Text, primary_key=True),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("enrolled_s", sa.Double, nullable=False),
        sa.Column("seen_s", sa.Double),
    )
    op.create_index("robots_key", "robots", ["public_key"], unique=True)
    op.create_table(
        "tokens",
        sa.Column("token_sha256", sa.Text, primary_key=True),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("expires_s", sa.Double, nullable=False),
        sa.Column("used_s", sa.Double),
    )
    op.create_table(
        "blobs",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("stored_s", sa.Double, nullable=False),
    )
    op.create_table(
        "samples",
        sa.Column("sample", sa.Text, primary_key=True),
        sa.Column("robot", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("novel", sa.Boolean, nullable=False),
        sa.Column("share", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("received_s", sa.Double, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("environment", sa.Boolean, nullable=False),
        sa.Column("near_of", sa.Text),
        sa.Column("embedding", sa.LargeBinary),
    )
    op.create_index("samples_robot", "samples", ["robot", "seq"])
    op.create_index("samples_station", "samples", ["site", "station", "at_s"])
    op.create_index("samples_received", "samples", ["received_s"])
    op.create_table(
        "sample_files",
        sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
        sa.Column("file", sa.Text, primary_key=True),
        sa.Column("blob", sa.Text, sa.ForeignKey("blobs.name"), nullable=False),
    )
    op.create_index("sample_files_blob", "sample_files", ["blob"])
    op.create_table(
        "quarantine",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("robot", sa.Text, nullable=False),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
    )
    op.create_index("quarantine_blob", "quarantine", ["blob", "robot"], unique=True)
    op.create_table(
        "events",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("robot", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
