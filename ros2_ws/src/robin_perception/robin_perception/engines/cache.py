"""Engines that were built on this machine, each in a folder of its own that says what it fits.

    <root>/<kind>-<digest of the key>/   engine files, entry.json (key, sha256 of every file, seal), verification.json
    <root>/.<digest>.lock                held by the process that builds; the system frees it when that process dies
    <root>/.<digest>.*.tmp               a build that has not come to its end; nothing ever reads it
    <root>/.secret                       this machine's, known to no other: an entry that it did not seal is foreign

A compiled engine is code that will be executed, so that one from elsewhere is never taken, however well its key fits.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robin_perception.core.disk import sync_folder, write_atomic, write_error, write_synced
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import require_room

ENTRY_FILE = "entry.json"
VERIFICATION_FILE = "verification.json"
ROOT_VARIABLE = "ROBIN_ENGINE_CACHE"
NOWHERE = Path(os.devnull) / "no-home"
"""A folder that holds nothing, and that nothing can be put into."""
_FORMAT = 1
_SECRET_BYTES = 32
_WAIT_STEP_S = 0.1
_MOST_WAIT_S = 3600.0  # a TensorRT build on a small computer takes up to a third of it

Key = Mapping[str, str]
Build = Callable[[], Mapping[str, bytes]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheEntry:
    """One folder of the cache. problem: why it must not be used, or None. verification: the latest report of
    ``robin engine verify`` on these very files, or None."""

    path: Path
    key: dict[str, str]
    files: dict[str, str]
    size_bytes: int
    made: str
    problem: str | None
    verification: dict[str, Any] | None


def cache_root() -> Path:
    """$ROBIN_ENGINE_CACHE, else robin_edge/engines in the user's cache folder; NOWHERE for a user without a home."""
    chosen = os.environ.get(ROOT_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return (Path(base) if base else Path.home() / ".cache") / "robin_edge" / "engines"
    except RuntimeError:
        return NOWHERE


def key_digest(key: Key) -> str:
    """16 hexadecimal digits; any change of any field gives others."""
    text = json.dumps({str(name): str(value) for name, value in key.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class EngineCache:
    """The cache below ``root`` (default ``cache_root()``). Several processes may use one root at the same time."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else cache_root()

    def require_writable(self) -> None:
        """Before minutes of building, not after. Raises RobinError OPTION_INVALID, DISK_FULL."""
        if self.root == NOWHERE:
            text = f"this user has no home folder for engines; name one in {ROOT_VARIABLE}"
            raise RobinError(Code.OPTION_INVALID, text)
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as exc:
            raise write_error(self.root, exc) from None
        require_room(self.root)

    def entry(self, key: Key) -> Path | None:
        """The folder that fits ``key``, every file of it verified, or None; why not is logged."""
        path, reason = self.find(key)
        if path is None:
            _log.info("%s", reason)
        return path

    def find(self, key: Key) -> tuple[Path | None, str]:
        """As ``entry``, and in one line why there is none."""
        path = self._folder(key)
        if os.path.isdir(path):  # no folder where it may not be looked for, too
            found = self._read(path, verify=True)
            if found.problem is None and found.key != _texts(key):
                return None, f"{path}: its key is not that of its name"
            return (path, "fits") if found.problem is None else (None, f"{path}: {found.problem}")
        return None, self._nearest(_texts(key))

    def entries(self, verify: bool = True) -> list[CacheEntry]:
        """All folders, by name. ``verify`` reads every file to the end."""
        try:
            folders = sorted(path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError:
            return []
        return [self._read(path, verify) for path in folders]

    def store(self, key: Key, files: Mapping[str, bytes]) -> Path:
        """Put ``files`` into the folder of ``key`` in one step, in place of what was there.

        Raises RobinError DISK_FULL or OPTION_INVALID; then the cache is as it was.
        """
        with self.building(key):
            return self._store(key, files)

    def built(self, key: Key, build: Build) -> Path:
        """The folder of ``key``; ``build`` is called where there is none, by one process at a time for one key: the
        others wait for it and take what it made. What ``build`` raises comes through."""
        path, _ = self.find(key)
        if path is not None:
            return path
        with self.building(key):
            path, reason = self.find(key)
            if path is not None:
                return path
            _log.warning("%s; it is built now", reason)
            return self._store(key, build())

    @contextmanager
    def building(self, key: Key) -> Iterator[None]:
        """Hold the lock of ``key``. A holder that died, however it died, holds nothing; what it left is removed."""
        digest = key_digest(key)
        self.require_writable()
        try:
            handle = os.open(self.root / f".{digest}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise write_error(self.root, exc) from None
        try:
            _wait_for(handle, digest)
            for left in self.root.glob(f".{digest}.*.tmp"):
                _log.warning("%s: removed, left by a build that was broken off", left)
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(handle)

    def verification(self, path: Path) -> dict[str, Any] | None:
        """The latest report that was laid beside the engine in ``path``, if it is of these very files."""
        return self._read(path, verify=False).verification

    def note_verification(self, path: Path, report: Mapping[str, Any]) -> None:
        """Lay ``report`` beside the engine, bound to the files it was made with. Raises RobinError as ``store``."""
        known = self._read(path, verify=False)
        data = (json.dumps({"files": known.files, "report": report}, indent=1) + "\n").encode()
        write_atomic(path / VERIFICATION_FILE, data)

    def _folder(self, key: Key) -> Path:
        return self.root / f"{key.get('kind', 'engine')}-{key_digest(key)}"

    def _store(self, key: Key, files: Mapping[str, bytes]) -> Path:
        """With the lock held. The folder is whole before its name is the one that is read."""
        folder = self._folder(key)
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
        aside: Path | None = None
        try:
            aside = Path(tempfile.mkdtemp(prefix=f".{key_digest(key)}.", suffix=".tmp", dir=self.root))
            entry = {"format": _FORMAT, "key": _texts(key), "files": hashes, "made": _now()}
            entry["seal"] = self._seal(entry)
            for name, data in files.items():
                write_synced(aside / name, data)
            write_synced(aside / ENTRY_FILE, (json.dumps(entry, indent=1) + "\n").encode())
            sync_folder(aside)
            if folder.exists():
                # A folder cannot be renamed over a full one. A reader in between finds none and builds, after us.
                old = aside.with_name(aside.name.replace(".tmp", ".old.tmp"))
                os.rename(folder, old)
                shutil.rmtree(old, ignore_errors=True)
            os.rename(aside, folder)
            sync_folder(self.root)
        except OSError as exc:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)
            raise write_error(folder, exc) from None
        return folder

    def _read(self, path: Path, verify: bool) -> CacheEntry:
        try:
            size = sum(file.stat().st_size for file in path.iterdir())
            entry = json.loads((path / ENTRY_FILE).read_text())
            key, files, made = dict(entry["key"]), dict(entry["files"]), str(entry["made"])
            if entry["format"] != _FORMAT:
                raise ValueError(f"format {entry['format']}")
        except (OSError, ValueError, KeyError, TypeError) as exc:
            return CacheEntry(path, {}, {}, 0, "", f"{ENTRY_FILE} is missing or damaged ({type(exc).__name__})", None)
        problem = self._problem(path, entry, files, verify)
        return CacheEntry(path, key, files, size, made, problem, _verification(path, files))

    def _problem(self, path: Path, entry: dict[str, Any], files: dict[str, str], verify: bool) -> str | None:
        try:
            seal = self._seal(entry)
        except RobinError as exc:
            return exc.text
        if not hmac.compare_digest(str(entry.get("seal", "")), seal):
            return "foreign: it was not built on this machine, and engines from elsewhere are not executed"
        if path.stat().st_uid != os.geteuid():
            return "foreign: it belongs to another user"
        for name, expected in files.items():
            if Path(name).name != name:
                return f"{name}: no name of a file"
            try:
                data = (path / name).read_bytes() if verify else None
            except OSError:
                return f"{name} is missing or unreadable"
            if data is not None and hashlib.sha256(data).hexdigest() != expected:
                return f"{name} is damaged: its sha256 differs from {ENTRY_FILE}"
        return None

    def _seal(self, entry: Mapping[str, Any]) -> str:
        text = json.dumps({name: entry[name] for name in ("format", "key", "files", "made")}, sort_keys=True)
        return hmac.new(self._secret(), text.encode(), hashlib.sha256).hexdigest()

    def _secret(self) -> bytes:
        path = self.root / ".secret"
        try:
            known = path.read_bytes()
            if len(known) == _SECRET_BYTES:
                return known
            path.unlink()
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise write_error(path, exc) from None
        aside = self.root / f".secret.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_synced(aside, secrets.token_bytes(_SECRET_BYTES))
            aside.chmod(0o600)
            os.link(aside, path)  # fails where another process was quicker: its secret is the machine's
        except FileExistsError:
            pass
        except OSError as exc:
            raise write_error(path, exc) from None
        finally:
            aside.unlink(missing_ok=True)
        return path.read_bytes()

    def _nearest(self, key: dict[str, str]) -> str:
        """Says what changed since the engine that fits best was built."""
        kind, camera = key.get("kind", "engine"), key.get("camera")
        what = f"{kind} engine for {camera}" if camera else f"{kind} engine"
        sound = [entry.key for entry in self.entries(verify=False) if entry.problem is None]
        others = [old for old in sound if (old.get("kind", "engine"), old.get("camera")) == (kind, camera)]
        if not others:
            return f"{self.root}: no {what} has been built yet"
        fewest = min((changes(old, key) for old in others), key=len)
        return f"no cached {what} fits: " + "; ".join(fewest)


def changes(old: Key, new: Key) -> list[str]:
    """What differs, field by field, in words."""
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    return [f"{name} was {_short(old.get(name))}, is {_short(new.get(name))}" for name in names]


def _short(value: str | None) -> str:
    if value is None:
        return "not given"
    return value[:12] + "…" if len(value) > 40 else value


def _texts(key: Key) -> dict[str, str]:
    return {str(name): str(value) for name, value in key.items()}


def _verification(path: Path, files: dict[str, str]) -> dict[str, Any] | None:
    try:
        noted = json.loads((path / VERIFICATION_FILE).read_text())
        report = noted["report"]
        return report if noted["files"] == files and isinstance(report, dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _wait_for(handle: int, digest: str) -> None:
    told, ending = False, time.monotonic() + _MOST_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told:
                _log.warning("another process builds engine %s; waiting for it", digest)
                told = True
            if time.monotonic() > ending:
                text = f"engine {digest}: another process has been building it for {_MOST_WAIT_S / 60:.0f} minutes"
                raise RobinError(Code.ENGINE_BUILD_FAILED, text) from None
            time.sleep(_WAIT_STEP_S)
        except OSError as exc:
            raise RobinError(Code.OPTION_INVALID, f"engine cache cannot be locked: {exc.strerror}") from None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
