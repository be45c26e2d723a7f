"""What a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.registry import DEFAULT_PLANNER
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_sim.recovered_pile import PersonConfig
from robin_sim.scenario import Scenario, load_scenario

DEFAULT_ENGINE = "auto"
MASKS = ("predicted", "oracle")
HELP_FOLDER, LIVE_FOLDER = "help", "live"
"""Below ``page``."""


@dataclass(frozen=True)
class RunRequest:
    """What to run: a scenario (loaded, by name or by path), how many picks, and with what.

    masks: one of MASKS; model: the bundle for predicted ones. planner_config, cell: None for what is shipped.
    recovery: loads are judged and put right, cups in doubt are found; recovery_config, person: None for the defaults.
    keep_cups: what was learned of the cups goes from pile to pile; else each pile begins with trusted ones.
    page: folder that the page looks into: what the camera sees now, and what a person is asked; None: nobody looks.
    learn_hold: file of what is learned of holding, from pick to pick; None: nothing is.
    """

    scenario: str | Path | Scenario
    picks: int
    seed: int
    planner: str = DEFAULT_PLANNER
    masks: str = "predicted"
    engine: str = DEFAULT_ENGINE
    model: Path | None = None
    workers: int = 1
    cell: CellConfig | None = None
    planner_config: PlannerConfig | None = None
    recovery: bool = False
    recovery_config: RecoveryConfig | None = None
    person: PersonConfig | None = None
    keep_cups: bool = False
    learn_hold: Path | None = None
    page: Path | None = None

    def checked(self) -> RunRequest:
        """With its scenario loaded. Raises RobinError: SCENARIO_UNKNOWN, OPTION_INVALID, CONFIG_*."""
        if self.picks < 1:
            raise RobinError(Code.OPTION_INVALID, f"picks must be at least 1, got {self.picks}")
        if self.workers < 1:
            raise RobinError(Code.OPTION_INVALID, f"workers must be at least 1, got {self.workers}")
        if self.keep_cups and self.workers > 1:
            text = "cups are kept from pile to pile in one process only; give --workers 1"
            raise RobinError(Code.OPTION_INVALID, text)
        if self.person is not None and self.person.real_wait_s > 0 and self.page is None:
            raise RobinError(Code.OPTION_INVALID, "a person can be asked in the folder of the run only; give --out")
        if self.learn_hold is not None and self.workers > 1:
            raise RobinError(Code.OPTION_INVALID, "holding is learned in one process only; give --workers 1")
        if self.masks not in MASKS:
            raise RobinError(Code.OPTION_INVALID, f"masks must be one of {', '.join(MASKS)}, got '{self.masks}'")
        loaded = self.loaded
        loaded.config.faults.require_cups((self.cell or CellConfig()).tool)
        return replace(self, scenario=loaded)

    @property
    def loaded(self) -> Scenario:
        return self.scenario if isinstance(self.scenario, Scenario) else load_scenario(self.scenario)
