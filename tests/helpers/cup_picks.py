"""Picks as cup health learns from them: which cups were open, and what each reached."""

from __future__ import annotations

import math

import numpy as np

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.traces import PickTraces
from robin_grasp.plan import Grasp
from robin_grasp.tool import ToolConfig, cups_to_mask

TOOL = ToolConfig()
ALL = tuple(range(8))
GOOD = 0.55  # share of the vacuum that a sound cup reaches on card


def grasp_with(cups: tuple[int, ...], seal: float = 0.98, tool: ToolConfig = TOOL) -> Grasp:
    seals = tuple(seal if cup in cups else math.nan for cup in range(tool.cup_count))
    return Grasp(np.eye(4), cups_to_mask(cups), 1, 0.0, cup_seal=seals)


def pressed(shares: dict[int, float], traces: bool = True, tool: ToolConfig = TOOL) -> PickOutcome:
    vacuum = np.array([tool.vacuum_pa * shares.get(cup, 0.0) for cup in range(tool.cup_count)])
    told = PickTraces(50.0, np.tile(vacuum, (8, 1)).astype(np.float32), np.zeros(8, np.float32), {"vacuum": 0})
    return PickOutcome(PickResult.CLEAN, tuple(vacuum.tolist()), 5.0, 3.0, traces=told if traces else None)
