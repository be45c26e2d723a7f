"""Roll-outs, the picks that they are judged by, metrics of robots, facts of picks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "rollouts",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("began_s", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_table(
        "rollout_events",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("rollout", sa.Text, sa.ForeignKey("rollouts.rollout"), nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_index("rollout_events_rollout", "rollout_events", ["rollout", "id"])
    op.create_table(
        "pick_counts",
        sa.Column("begin_s", sa.BigInteger, primary_key=True),
        sa.Column("robot", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("picks", sa.BigInteger, nullable=False),
        sa.Column("clean", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
    )
    op.create_table(
        "metrics",
        sa.Column("robot", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("at_s", sa.Double, primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
    )
    op.create_index("metrics_at", "metrics", ["at_s"])
    op.create_table(
        "pick_facts",
        sa.Column("decision", sa.Text, primary_key=True),
        sa.Column("robot", sa.Text, primary_key=True),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
    )
    op.create_index("pick_facts_at", "pick_facts", ["at_s"])
    op.create_index("samples_decision", "samples", ["decision_id"])
