"""Bring a ledger's tables to those of this release: forward only, by alembic, in the transaction that is given."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from robin_perception.core.errors import Code, RobinError

FOLDER = Path(__file__).with_name("migrations")
NEWEST = "head"


def migrate(connection: sa.Connection, name: str, target: str = NEWEST) -> None:
    """name: of the ledger. target: revision to stop at. Raises RobinError LEDGER_VERSION for a ledger that a newer
    release has changed."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER))
    script = ScriptDirectory.from_config(config)
    heads = MigrationContext.configure(connection).get_current_heads()
    known = {revision.revision for revision in script.walk_revisions()}
    for found in set(heads) - known:
        text = f"{name}: tables of version {found}, this release knows them up to {script.get_current_head()}"
        raise RobinError(Code.LEDGER_VERSION, f"{text}; use the release that made them, or a newer one")
    if target != NEWEST or set(heads) != set(script.get_heads()):
        command.upgrade(config, target)
