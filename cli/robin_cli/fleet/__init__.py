"""``robin fleet``: the aggregator of many cells. Each module adds its commands to ``app``."""

from __future__ import annotations

import typer

from robin_cli.fleet import (
    annotate,
    correlate,
    deck,
    demo,
    keys,
    metrics,
    novelties,
    prune,
    release,
    rollout,
    samples,
    status,
    train,
    up,
)

MODULES = (
    up,
    status,
    samples,
    keys,
    novelties,
    annotate,
    deck,
    train,
    release,
    rollout,
    metrics,
    correlate,
    prune,
    demo,
)
app = typer.Typer(help="The aggregator of a fleet: what robots sent, and what is made of it.", no_args_is_help=True)
for module in MODULES:
    module.add_to(app)
