"""Sightings, novelties, faults of stations; labels; decks, what was trained from them, signatures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "looked",
        sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
    )
    op.create_table(
        "novelties",
        sa.Column("novelty", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("merged_into", sa.Text),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("decided_s", sa.Double),
        sa.Column("made_s", sa.Double, nullable=False),
    )
    op.create_table(
        "sightings",
        sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
        sa.Column("instance", sa.Integer, primary_key=True),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("level", sa.Double, nullable=False),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("kept_out", sa.Boolean, nullable=False),
        sa.Column("look", sa.LargeBinary, nullable=False),
        sa.Column("picture", sa.Text, nullable=False),
        sa.Column("novelty", sa.Text, sa.ForeignKey("novelties.novelty")),
    )
    op.create_index("sightings_novelty", "sightings", ["novelty"])
    op.create_index("sightings_station", "sightings", ["site", "station", "at_s"])
    op.create_table(
        "station_faults",
        sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
        sa.Column("condition", sa.Text, primary_key=True),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
    )
    op.create_index("station_faults_station", "station_faults", ["site", "station", "at_s"])
    op.create_table(
        "labels",
        sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("class_name", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("checked_by", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
    )
    op.create_table(
        "decks",
        sa.Column("deck", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("members", sa.Integer, nullable=False),
        sa.Column("held", sa.Integer, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("made_s", sa.Double, nullable=False),
    )
    op.create_table(
        "trainings",
        sa.Column("training", sa.Text, primary_key=True),
        sa.Column("deck", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("parent", sa.Text, nullable=False),
        sa.Column("candidate", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("page", sa.Text),
        sa.Column("started_s", sa.Double, nullable=False),
        sa.Column("ended_s", sa.Double),
    )
    op.create_table(
        "signatures",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("training", sa.Text, sa.ForeignKey("trainings.training"), nullable=False),
        sa.Column("signed_by", sa.Text, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("page", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
    )
