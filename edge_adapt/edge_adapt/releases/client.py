"""The robot's view of a repository of releases: TUF's own client, with each refusal as a number of ours.

``trusted_root.json`` comes with enrolment and is only read here. What updates write lies in ``metadata/``; a newer root
is believed only where it is signed by the keys of the one before, from the trusted one on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from tuf.api import exceptions as tuf
from tuf.ngclient import FetcherInterface, TargetFile, Updater, UpdaterConfig

from edge_adapt.releases.fetchers import source_of
from edge_adapt.releases.release import (
    RELEASE_BYTES,
    Assignments,
    Part,
    Release,
    assignments_path,
    parse_assignments,
    parse_release,
    release_path,
)
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError

ROOT_FILE = "trusted_root.json"
_METADATA, _TARGETS = "metadata", "targets"
_CONFIG = UpdaterConfig(
    max_root_rotations=64,
    root_max_length=256_000,
    timestamp_max_length=16_384,
    snapshot_max_length=1_000_000,
    targets_max_length=5_000_000,
)


class ReleaseClient:
    """One look at a repository: one state of it, verified as a whole. One process at a time on a ``folder``.

    folder: of the robot, with the trusted root. where: folder or address of the repository. Raises RobinError
    RELEASE_ROOT_INVALID, OPTION_INVALID.
    """

    def __init__(self, folder: Path, where: str, fetcher: FetcherInterface | None = None) -> None:
        self._folder = folder
        address, own = source_of(where)
        self._watched = _Watched(fetcher or own)
        root = _trusted(folder)
        for name in (_METADATA, _TARGETS):
            make_folder(folder / name)
        with self._told():
            self._updater = Updater(
                str(folder / _METADATA),
                f"{address}metadata/",
                str(folder / _TARGETS),
                f"{address}targets/",
                self._watched,
                _CONFIG,
                bootstrap=root,
            )

    def refresh(self) -> None:
        """Raises RobinError RELEASE_*: nothing of what came is believed then."""
        with self._told():
            self._updater.refresh()

    def release(self, name: str) -> Release:
        """Raises RobinError RELEASE_UNKNOWN, RELEASE_*."""
        found = self._target(release_path(name))
        if found is None:
            raise RobinError(Code.RELEASE_UNKNOWN, f"release {name}: the repository has none of that name")
        release = parse_release(self._small(found), found.path)
        if release.name != name:
            raise RobinError(Code.RELEASE_INVALID, f"{found.path}: is of release {release.name}")
        return release

    def assignments(self, site: str) -> Assignments:
        """Of a site; none where nothing was ever assigned there. Raises RobinError RELEASE_*."""
        found = self._target(assignments_path(site))
        return Assignments() if found is None else parse_assignments(self._small(found), found.path)

    def part(self, part: Part) -> dict[str, Path]:
        """Files of a part on the disk, by name, verified. Raises RobinError RELEASE_*."""
        files = {}
        for name, wanted in part.files.items():
            path = f"{part.folder}/{name}"
            found = self._target(path)
            if found is None or found.hashes.get("sha256") != wanted.sha256 or found.length != wanted.size_bytes:
                raise RobinError(Code.RELEASE_TAMPERED, f"{path}: is not the file that the release names")
            files[name] = Path(self._downloaded(found))
        return files

    def keep_only(self, parts: Iterable[Part]) -> None:
        """Remove files of parts that were fetched before and are not among these."""
        kept = {quote(f"{part.folder}/{name}", "") for part in parts for name in part.files}
        for path in (self._folder / _TARGETS).glob("parts%2F*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _target(self, path: str) -> TargetFile | None:
        with self._told():
            return self._updater.get_targetinfo(path)

    def _small(self, found: TargetFile) -> bytes:
        if found.length > RELEASE_BYTES:
            raise RobinError(
                Code.RELEASE_ENDLESS, f"{found.path}: {found.length:,} bytes, {RELEASE_BYTES:,} are allowed"
            )
        return read_plain_bytes(Path(self._downloaded(found)), RELEASE_BYTES)

    def _downloaded(self, found: TargetFile) -> str:
        with self._told():
            return self._updater.find_cached_target(found) or self._updater.download_target(found)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (tuf.RepositoryError, tuf.DownloadError) as exc:
            where = self._watched.latest or str(self._folder / ROOT_FILE)
            raise RobinError(_code(exc), f"{where}: {exc}") from None
        except OSError as exc:
            code = Code.DISK_FULL if exc.errno == 28 else Code.RELEASE_UNREACHABLE
            raise RobinError(code, f"{exc.filename or self._folder}: {exc.strerror or exc}") from None


class _Watched(FetcherInterface):
    """Remembers what was asked for last, so that a refusal can name it."""

    def __init__(self, inner: FetcherInterface) -> None:
        self._inner = inner
        self.latest = ""

    def _fetch(self, url: str) -> Iterator[bytes]:
        if not (url.endswith(".root.json") and self.latest.endswith(".root.json")):
            self.latest = url
        return self._inner.fetch(url)


def trust(folder: Path, root: bytes) -> None:
    """Put the trusted root where the client looks for it, at enrolment. It is not replaced. Raises RobinError
    RELEASE_ROOT_INVALID for another one than is there, DISK_FULL."""
    path = folder / ROOT_FILE
    make_folder(folder)
    if path.exists():
        if _trusted(folder) != root:
            raise RobinError(Code.RELEASE_ROOT_INVALID, f"{path}: another root is trusted here; remove it by hand")
        return
    write_atomic(path, root)
    path.chmod(0o444)


def _trusted(folder: Path) -> bytes:
    try:
        return read_plain_bytes(folder / ROOT_FILE, _CONFIG.root_max_length)
    except RobinError as exc:
        raise RobinError(Code.RELEASE_ROOT_INVALID, exc.text) from None


def _code(exc: Exception) -> Code:
    """Of a refusal by TUF's client, which tells some of them apart in words only."""
    said = str(exc)
    if isinstance(exc, tuf.DownloadLengthMismatchError):
        return Code.RELEASE_ENDLESS
    if isinstance(exc, tuf.DownloadError):
        return Code.RELEASE_UNREACHABLE
    if isinstance(exc, tuf.ExpiredMetadataError):
        return Code.RELEASE_EXPIRED
    if isinstance(exc, tuf.UnsignedMetadataError) and not said.endswith("0/1 keys"):
        return Code.RELEASE_UNSIGNED
    if isinstance(exc, tuf.BadVersionNumberError):
        older = "must be >=" in said or ".json version" in said
        return Code.RELEASE_ROLLED_BACK if older else Code.RELEASE_MIXED
    return Code.RELEASE_TAMPERED
