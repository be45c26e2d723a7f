"""The folder of an aggregator: its settings, and where its ledger and objects are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import yaml
from pydantic import Field

from robin_fleet.ledger.core import Ledger, open_ledger
from robin_fleet.objects import open_objects
from robin_fleet.objects.interface import Objects
from robin_fleet.server.config import ServerConfig
from robin_perception.core.config import StrictConfig, load_config
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError

CONFIG_FILE = "fleet.yaml"
LEDGER_FILE = "ledger.sqlite"
OBJECT_FOLDER = "objects"


class PruneConfig(StrictConfig):
    """What `robin fleet up` removes by itself: orphans and old quarantine always, samples where a limit is set."""

    every_h: float = Field(24.0, ge=1, le=8760, description="From one look to the next, h.")
    older_days: float | None = Field(None, ge=2, le=36_500, description="Samples that came in so long ago go.")
    most_gb: float | None = Field(None, ge=0, le=1e9, description="The oldest go until all have so much, 1e9 bytes.")


class TrainingConfig(StrictConfig):
    """What `robin fleet up` trains by itself."""

    deck: str = Field("", description="Name of the deck, of which each training makes a new version; empty: never.")
    every_h: int = Field(84, ge=1, le=8760, description="From one training to the next, h; a novelty may come between.")
    look_every_h: float = Field(1.0, gt=0, le=168, description="From one look whether it is due to the next, h.")
    quick: bool = Field(False, description="Teach the head alone, not the whole network.")


class FleetConfig(StrictConfig):
    """Settings of an aggregator, in ``fleet.yaml``."""

    ledger: str = Field("", description="sqlite:///path or postgresql://user@host/name; empty = a file in the folder.")
    objects: str = Field("", description="file:///folder or s3://bucket/prefix?endpoint=…; empty = in the folder.")
    compute: str = Field("", description="processes://N, dask://host:port, ray://host:port; empty = in each command.")
    endpoint: str = Field("tcp://*:7410", description="Where robots send to; enrolment takes the port above.")
    releases: str = Field("", description="http://address:port where robots fetch releases; empty: not served.")
    server: ServerConfig = ServerConfig()
    prune: PruneConfig = PruneConfig()
    training: TrainingConfig = TrainingConfig()


@dataclass(frozen=True)
class Fleet:
    """An open aggregator. folder: of its settings, keys and whatever else it keeps beside ledger and objects."""

    folder: Path
    config: FleetConfig
    ledger: Ledger
    objects: Objects

    @property
    def objects_url(self) -> str:
        return _objects_url(self.folder, self.config)

    def close(self) -> None:
        self.ledger.close()
        self.objects.close()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_fleet(folder: Path, config: FleetConfig | None = None) -> None:
    """Write the settings of a new aggregator; one that is there keeps its own where ``config`` is None.
    Raises RobinError DISK_FULL, OPTION_INVALID."""
    make_folder(folder)
    path = folder / CONFIG_FILE
    if config is not None or not path.exists():
        values = (config or FleetConfig()).model_dump(exclude_defaults=True)
        write_atomic(path, yaml.safe_dump(values, sort_keys=False).encode())


def open_fleet(folder: Path) -> Fleet:
    """Raises RobinError FLEET_MISSING, CONFIG_*, and what ``open_ledger`` and ``open_objects`` raise."""
    if not (folder / CONFIG_FILE).is_file():
        raise RobinError(Code.FLEET_MISSING, f"{folder}: no {CONFIG_FILE} there; robin fleet up makes one")
    config = load_config(FleetConfig, folder / CONFIG_FILE)
    own = folder.absolute()
    ledger = open_ledger(config.ledger or f"sqlite:///{own / LEDGER_FILE}")
    try:
        objects = open_objects(_objects_url(folder, config))
    except BaseException:
        ledger.close()
        raise
    return Fleet(folder, config, ledger, objects)


def _objects_url(folder: Path, config: FleetConfig) -> str:
    return config.objects or (folder.absolute() / OBJECT_FOLDER).as_uri()
