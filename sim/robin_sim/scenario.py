"""Scenarios: what the simulated cell is confronted with. One YAML file each in ``scenarios/``, known by its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from robin_grasp.tool import CellConfig, WorkspaceConfig, tote_workspace
from robin_perception.core.config import StrictConfig, load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import plain_id
from robin_sim.cameras import CameraView, hfov_of_aspect, intrinsics, look_at, misplaced, true_camera
from robin_sim.faults import Faults
from robin_sim.parcels import BASE_TRAINING_MIX, ParcelMix
from robin_sim.sensor import SensorModelConfig, StereoConfig

SCENARIO_FOLDER = Path(__file__).parent / "scenarios"
ARRANGEMENTS = ("tumbled", "flush", "stacked", "single_layer")
CONTAINERS = ("belt", "tote")
LONGEST_NAME = 80  # seed, planner and numbers of pile and pick are added to it in a decision's id


class CountRange(StrictConfig):
    """How many parcels a pile starts with; drawn log-uniformly, so that small piles are as common as large ones."""

    least: int = Field(5, ge=1, le=80)
    most: int = Field(60, ge=1, le=80)

    @model_validator(mode="after")
    def _ordered(self) -> CountRange:
        if self.least > self.most:
            raise ValueError(f"least {self.least} is above most {self.most}")
        return self

    def draw(self, rng: np.random.Generator) -> int:
        drawn = math.exp(rng.uniform(math.log(self.least - 0.499), math.log(self.most + 0.499)))
        return int(np.clip(round(drawn), self.least, self.most))


class StereoRange(StrictConfig):
    """The depth camera's faults, each drawn between two values; see ``StereoConfig``."""

    disparity_noise_px: tuple[float, float] = (0.08, 0.08)
    dropout: tuple[float, float] = (1.0, 1.0)
    speckle: tuple[float, float] = (0.004, 0.004)

    @model_validator(mode="after")
    def _of_a_camera(self) -> StereoRange:
        for at in (0, 1):
            self._at([pair[at] for pair in self._pairs])
        if any(low > high for low, high in self._pairs):
            raise ValueError("the first value of each range is the lower one")
        return self

    @property
    def _pairs(self) -> tuple[tuple[float, float], ...]:
        return self.disparity_noise_px, self.dropout, self.speckle

    @staticmethod
    def _at(values: list[float]) -> StereoConfig:
        noise, dropout, speckle = values
        return StereoConfig(disparity_noise_px=noise, dropout=dropout, speckle=speckle)

    def draw(self, rng: np.random.Generator) -> StereoConfig:
        return self._at([float(rng.uniform(*pair)) for pair in self._pairs])


class CameraConfig(StrictConfig):
    """The cell's camera. Each pile has its own mounting, near the nominal one, looking down from 1.2 to 1.4 m.

    height_m: distance from the middle of the belt. calibration_error_m, calibration_error_rad: how far the true pose is
    off the calibrated one, in a random direction.
    """

    width: int = Field(640, ge=160, le=4096)
    height: int = Field(480, ge=120, le=4096)
    height_m: tuple[float, float] = (1.20, 1.40)
    least_tilt_rad: float = Field(0.0, ge=0.0, le=1.05)
    max_tilt_rad: float = Field(0.14, ge=0.0, le=1.05)
    max_roll_rad: float = Field(0.09, ge=0.0, le=3.15)
    calibration_error_m: float = Field(0.001, ge=0.0, le=0.05)
    calibration_error_rad: float = Field(0.001, ge=0.0, le=0.1)
    stereo: StereoRange = StereoRange()

    @model_validator(mode="after")
    def _ordered(self) -> CameraConfig:
        if self.least_tilt_rad > self.max_tilt_rad:
            raise ValueError(f"least_tilt_rad {self.least_tilt_rad} is above max_tilt_rad {self.max_tilt_rad}")
        return self

    def draw_sensor(self, rng: np.random.Generator) -> SensorModelConfig:
        return SensorModelConfig(stereo=self.stereo.draw(rng))


class ScenarioConfig(StrictConfig):
    """What a pile is made of and how the cell looks at it.

    containers, arrangements: weights by name, need not sum to 1. mix: the parcels; by default what base training may
    know. surroundings: belt, hall and light of the kinds that base training draws, others, or any room. one_cell:
    container, camera, light and surroundings are drawn once for all piles of a seed. picks_per_pile: after so many
    attempts the pile is replaced. faults: what is broken from the first pick on; its unseen_packaging raises the mix's
    unseen_fraction.
    """

    description: str
    containers: dict[str, float] = Field(default_factory=lambda: {"belt": 1.0})
    arrangements: dict[str, float] = Field(default_factory=lambda: {"tumbled": 1.0})
    belt_parcels: CountRange = CountRange(least=5, most=60)
    tote_parcels: CountRange = CountRange(least=5, most=30)
    belt_fill_l: float = Field(120.0, gt=1, le=500, description="goods of a full belt, litres of outer volume")
    tote_fill_l: float = Field(53.0, gt=1, le=300, description="goods of a full tote: half of an 80 x 60 x 22 cm one")
    mix: ParcelMix = BASE_TRAINING_MIX
    camera: CameraConfig = CameraConfig()
    surroundings: Literal["known", "new", "any"] = "known"
    one_cell: bool = False
    faults: Faults = Faults()
    picks_per_pile: int = Field(80, ge=1, le=200)

    @field_validator("containers", "arrangements")
    @classmethod
    def _weights(cls, value: dict[str, float]) -> dict[str, float]:
        if any(weight < 0 for weight in value.values()) or not sum(value.values()) > 0:
            raise ValueError("weights must be >= 0 and not all 0")
        return value

    @property
    def parcel_mix(self) -> ParcelMix:
        """The mix with the unseen_packaging fault in it."""
        unseen = max(self.mix.unseen_fraction, self.faults.unseen_packaging)
        return self.mix.model_copy(update={"unseen_fraction": unseen})

    @model_validator(mode="after")
    def _names(self) -> ScenarioConfig:
        for given, known in ((self.containers, CONTAINERS), (self.arrangements, ARRANGEMENTS)):
            for name in given:
                if name not in known:
                    raise ValueError(f"'{name}' is none of {', '.join(known)}")
        return self


@dataclass(frozen=True)
class Scenario:
    """A scenario under its name."""

    name: str
    config: ScenarioConfig


@dataclass(frozen=True)
class PileDraw:
    """What one pile of a scenario starts from. camera: where it is believed to stand; true_camera: where it stands.
    fill_l: litres of goods that the container takes."""

    workspace: WorkspaceConfig
    arrangement: str
    parcel_count: int
    camera: CameraView
    true_camera: CameraView
    fill_l: float


def scenario_names(folder: Path = SCENARIO_FOLDER) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def load_scenario(name_or_path: str | Path) -> Scenario:
    """A registered scenario by name, or a scenario file by path (ends in .yaml). Raises RobinError on any fault."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        name = plain_id(path.stem, "scenario file", LONGEST_NAME)
        return Scenario(name, load_config(ScenarioConfig, path))
    known = scenario_names()
    if str(name_or_path) not in known:
        raise RobinError(Code.SCENARIO_UNKNOWN, f"'{name_or_path}': known scenarios are {', '.join(known)}")
    return Scenario(str(name_or_path), load_config(ScenarioConfig, SCENARIO_FOLDER / f"{name_or_path}.yaml"))


def draw_pile_start(
    config: ScenarioConfig, cell: CellConfig, rng: np.random.Generator, cell_rng: np.random.Generator | None = None
) -> PileDraw:
    """Container, arrangement, number of parcels and camera of one pile. A belt is the cell's own workspace. cell_rng:
    of what the cell is rather than the pile, container and camera; by default ``rng``."""
    cell_rng = cell_rng or rng
    container = _weighted(config.containers, cell_rng)
    arrangement = _weighted(config.arrangements, rng)
    workspace = cell.workspace if container == cell.workspace.container else _workspace(container)
    counts = config.tote_parcels if container == "tote" else config.belt_parcels
    count = counts.draw(rng)
    camera, true_camera = draw_cameras(config, workspace, cell_rng)
    fill_l = config.tote_fill_l if container == "tote" else config.belt_fill_l
    return PileDraw(workspace, arrangement, count, camera, true_camera, fill_l)


def _workspace(container: str) -> WorkspaceConfig:
    return tote_workspace() if container == "tote" else WorkspaceConfig()


def _weighted(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    names = sorted(weights)
    share = np.array([weights[name] for name in names], dtype=np.float64)
    return names[int(rng.choice(len(names), p=share / share.sum()))]


def draw_cameras(
    config: ScenarioConfig, workspace: WorkspaceConfig, rng: np.random.Generator
) -> tuple[CameraView, CameraView]:
    """(believed, true) camera: near nominal, off by the calibration's error and by the camera_shift fault."""
    settings = config.camera
    target = np.array([*workspace.centre_m, workspace.belt_z_m])
    target[:2] += rng.uniform(-0.03, 0.03, size=2)
    pose = look_at(
        target,
        rng.uniform(*settings.height_m),
        rng.uniform(settings.least_tilt_rad, settings.max_tilt_rad),
        rng.uniform(-math.pi, math.pi),
        rng.uniform(-1.0, 1.0) * settings.max_roll_rad,
    )
    return cameras_at(config, pose, rng)


def cameras_at(
    config: ScenarioConfig, T_base_camera: NDArray[np.float64], rng: np.random.Generator
) -> tuple[CameraView, CameraView]:
    """(believed, true) camera mounted at a pose: off by the calibration's error and by the camera_shift fault."""
    settings = config.camera
    K = intrinsics(settings.width, settings.height, hfov_of_aspect(settings.width, settings.height))
    believed = CameraView(settings.width, settings.height, K, T_base_camera)
    off = misplaced(believed, rng, settings.calibration_error_m, settings.calibration_error_rad)
    return believed, true_camera(off, config.faults)
