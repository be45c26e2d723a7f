"""Which cups hold a second parcel, as far as the frame before the pick tells."""

from __future__ import annotations

import numpy as np

from robin_grasp.grasp_overlay import project_tool
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.tool import ToolConfig, cups_to_mask, mask_to_cups

HOLDS = 0.1  # of the pump's vacuum
ON_TARGET = 0.5  # share of a lip that lies on the target's mask
RING = 12


def cups_on_another(pick: PickTarget, outcome: PickOutcome, tool: ToolConfig) -> int:
    """Mask of cups that hold something, and whose lips lay on another mask than the target's. 0 where no cup does, or
    where none holds the target: then nobody knows which parcel hangs on which cup."""
    angle = np.linspace(0.0, 2.0 * np.pi, RING, endpoint=False)
    ring = tool.cup_radius_m * np.stack([np.cos(angle), np.sin(angle), np.zeros(RING)], axis=1)
    labels, target = pick.scene.labels, pick.grasp.instance_id
    own, other = [], []
    for cup in mask_to_cups(pick.grasp.cups):
        lip = project_tool(pick.frame, pick.grasp, tool.cups_m[cup] + np.concatenate([ring, np.zeros((1, 3))]))
        if lip is None or outcome.vacuum_pa[cup] < HOLDS * tool.vacuum_pa:
            continue
        x, y = lip[:, 0].clip(0, labels.shape[1] - 1), lip[:, 1].clip(0, labels.shape[0] - 1)
        under = labels[y, x]
        if (under == target).mean() >= ON_TARGET:
            own.append(cup)
        elif ((under != target) & (under > 0)).mean() >= ON_TARGET:
            other.append(cup)
    return cups_to_mask(tuple(other)) if own else 0
