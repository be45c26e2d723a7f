"""One line of the doctor's table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MachineCheck:
    """What was found of one thing, and how to get it. needed: the demo cannot run without it."""

    name: str
    ok: bool
    needed: bool
    found: str
    remedy: str = ""
