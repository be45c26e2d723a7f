"""``robin adapt``: what the robot learns, and which model runs."""

from __future__ import annotations

import typer

from robin_cli.commands import adapt_fetch, adapt_run, adapt_teach, adapt_try, adapt_versions

app = typer.Typer(help="What the robot learns, and which model runs.", no_args_is_help=True)
app.command("run")(adapt_run.run)
app.command("teach")(adapt_teach.teach)
app.command("fetch")(adapt_fetch.fetch)
app.command("try")(adapt_try.try_release)
adapt_versions.add_to(app)
