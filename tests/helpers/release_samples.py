"""A repository of releases with two of them, and a robot that trusts its root."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tuf.ngclient import FetcherInterface

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.releases.client import ReleaseClient, trust
from edge_adapt.releases.fetchers import FolderFetcher
from helpers.model_samples import bundles
from robin_fleet.release.parts import Given, gather
from robin_fleet.release.repository import ReleaseRepository

SITE, ROBOT = "north", "cell-1"
DAY_S = 86_400.0


@dataclass
class Clock:
    """Of the aggregator; the robot's is the machine's."""

    now_s: float

    def __call__(self) -> float:
        return self.now_s


@dataclass
class World:
    """fleet: the aggregator's folder; keys: those kept elsewhere; bundles: the factory's, then others."""

    folder: Path
    repository: ReleaseRepository
    clock: Clock
    bundles: list[Path]
    registry: ModelRegistry

    @property
    def keys(self) -> Path:
        return self.folder / "offline"

    @property
    def robot(self) -> Path:
        return self.folder / "robot"

    @property
    def served(self) -> Path:
        return self.repository.folder

    def release(self, name: str, **parts: Path) -> None:
        """A new one, signed and published."""
        self.repository.add(*gather(name, Given(**parts)))  # type: ignore[arg-type]
        self.repository.sign(self.keys)

    def client(self, fetcher: FetcherInterface | None = None) -> ReleaseClient:
        return ReleaseClient(self.robot, str(self.served), fetcher)


def world(folder: Path, *, days_ago: float = 0.0, sites: tuple[str, ...] = (SITE,)) -> World:
    """With a repository that was made some days ago, and the robot's trust in it."""
    clock = Clock(time.time() - days_ago * DAY_S)
    repository = ReleaseRepository(folder / "fleet", clock)
    root = repository.init(folder / "offline", sites)
    paths = bundles(folder / "bundles", 2)
    trust(folder / "robot", root)
    return World(folder, repository, clock, paths, ModelRegistry(folder / "models", paths[0]))


def saved(made: World) -> Path:
    """A copy of what is served now."""
    place = made.folder / "saved"
    shutil.copytree(made.served, place)
    return place


class Meddled(FetcherInterface):
    """A server that changes what it sends. meddle: (address, content) -> content in pieces, None: as it is."""

    def __init__(self, meddle: Callable[[str, bytes], Iterator[bytes] | None]) -> None:
        self._meddle, self._inner = meddle, FolderFetcher()
        self.sent = 0

    def _fetch(self, url: str) -> Iterator[bytes]:
        content = b"".join(self._inner.fetch(url))
        return self._counted(self._meddle(url, content) or iter([content]))

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.sent += len(piece)
            yield piece
