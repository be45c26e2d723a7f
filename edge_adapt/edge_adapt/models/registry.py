"""Versions of the model on disk: the factory's, which lies elsewhere, and numbered ones; which of them runs; why.

``active.json`` says which one runs and is replaced in one step. Each change is first told in the journal, which is
synced; one that a crash kept from taking effect is told as interrupted by the next writer. So there is a whole model to
run at any moment: the active version, else the last good one, else the factory's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_adapt.models.journal import Entry, Journal, Story, signed, stamp
from edge_adapt.models.state import FACTORY, STATE_FILE, RegistryState, Version, parse_state, read_state, state_bytes
from edge_adapt.store.blobs import Files
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder, set_aside, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import locked
from robin_perception.model.bundle import (
    CARD_FILE,
    MANIFEST_FILE,
    MODEL_BYTES,
    NETWORK_FILE,
    Bundle,
    load_bundle,
    read_manifest,
)

VERSIONS = "versions"
_INCOMING = ".incoming"
_GOING = ".going"
_WAIT_S = 10.0  # for another process that changes something


def default_folder(factory: Path) -> Path:
    """Where versions lie that nobody names a folder for: ``ROBIN_MODELS``, else beside the factory's bundle."""
    return Path(os.environ.get("ROBIN_MODELS") or factory.parent / "learned")


@dataclass(frozen=True)
class Loaded:
    """A verified model. problem: why it is not the one that should run, None where it is."""

    version: int
    bundle: Bundle
    problem: RobinError | None = None


class ModelRegistry:
    """Versions below ``folder``. Any number of readers and writers, in any process: each change holds a lock.

    factory: the bundle that everything began with; it is only read. clock: seconds since 1970, told in the journal.
    by, why: who changes something, and the reason; they are told in the journal.
    """

    def __init__(
        self, folder: Path, factory: Path, *, files: Files | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder, self.factory = folder, factory
        self._files = files or Files()
        self._clock = clock
        self._journal = Journal(folder, self._files)

    def state(self) -> RegistryState:
        """As it is on the disk; where that is damaged, as the journal tells it. Raises nothing."""
        return self._known_state()[0]

    @property
    def used(self) -> bool:
        """Whether anything was ever changed; until then it is as if there were none."""
        state = self.state()
        return state.sequence > 0 or bool(state.versions)

    def story(self) -> Story:
        """All entries of the journal."""
        return self._journal.read()

    def path(self, number: int) -> Path:
        """Of the bundle of that version. Raises RobinError VERSION_UNKNOWN."""
        return self.factory if number == FACTORY else self._place(self.state().version(number))

    def load(self) -> Loaded:
        """The model to run: the active version, else the newest before it that is whole, else the factory's.

        Raises RobinError MODEL_* where the factory's bundle is damaged, too.
        """
        state, problem = self._known_state()
        order = dict.fromkeys((state.active, *state.earlier, FACTORY))
        for number in order:
            try:
                bundle = self.load_version(number, state)
            except RobinError as exc:
                if number == FACTORY:
                    raise
                problem = problem or RobinError(Code.VERSION_DAMAGED, f"{exc.text}; another one runs in its place")
            else:
                return Loaded(number, replace(bundle, version=number), problem)
        raise AssertionError("the factory's is the last")

    def load_version(self, number: int, state: RegistryState | None = None) -> Bundle:
        """Raises RobinError VERSION_UNKNOWN, VERSION_DAMAGED where it is not what was added, MODEL_* of the
        factory's."""
        if number == FACTORY:
            return load_bundle(self.factory)
        state = state or self.state()
        self._require_whole(number, state)
        try:
            return load_bundle(self._place(state.version(number)))
        except RobinError as exc:
            raise RobinError(Code.VERSION_DAMAGED, f"version {number}: {exc.text}") from None

    def add(self, bundle: Path, by: str, why: str, data: Mapping[str, Any] | None = None) -> int:
        """Copy a bundle in as a new version, which does not run yet; returns its number. data: what it learned, and
        the gate's verdict. Raises RobinError MODEL_* for a bundle that is not whole, DISK_FULL, MODELS_BUSY."""
        fresh = load_bundle(bundle)
        with self._changing() as state:
            number = state.next_number
            self._copy(fresh, number)
            version = self._described(load_bundle(self._numbered(number)), number)
            after = state.model_copy(update={"next_number": number + 1, "versions": (*state.versions, version)})
            self._commit(after, "added", by, why, {**(data or {}), "version": number})
        return number

    def refuse(self, by: str, why: str, data: Mapping[str, Any] | None = None) -> None:
        """Tell the journal of a candidate that does not become a version. Raises RobinError DISK_FULL, MODELS_BUSY."""
        with self._changing() as state:
            self._commit(state, "refused", by, why, data)

    def activate(self, number: int, by: str, why: str, data: Mapping[str, Any] | None = None) -> RegistryState:
        """Run that version from now on. Raises RobinError VERSION_UNKNOWN, VERSION_DAMAGED, VERSION_PINNED,
        DISK_FULL, MODELS_BUSY; what ran goes on then."""
        with self._changing() as state:
            _require_free(state)
            self._require_whole(number, state)
            return self._commit(state.running(number), "active", by, why, {**(data or {}), "version": number})

    def rollback(self, by: str, why: str, data: Mapping[str, Any] | None = None) -> RegistryState:
        """Run the version that ran before, or the newest before it that is whole, else the factory's.

        Raises RobinError VERSION_UNKNOWN where there is nothing to go back to, VERSION_PINNED, DISK_FULL, MODELS_BUSY.
        """
        with self._changing() as state:
            _require_free(state)
            if state.active == FACTORY and not state.earlier:
                raise RobinError(Code.VERSION_UNKNOWN, "the factory's model runs, and none ran before it")
            target = self._last_good(state)
            told = {**(data or {}), "from": state.active, "version": target}
            return self._commit(state.back_at(target), "rolled_back", by, why, told)

    def fall_back(self, loaded: Loaded, by: str) -> RegistryState:
        """What ``load`` found in place of a damaged version is the active one from now on, pinned or not."""
        with self._changing() as state:
            if loaded.problem is None or loaded.version == state.active:
                return state
            told = {"from": state.active, "version": loaded.version, "code": int(loaded.problem.code)}
            back = state.back_at(loaded.version).model_copy(update={"pinned": False})
            return self._commit(back, "fell_back", by, loaded.problem.text, told)

    def give_up(self, number: int, by: str, why: str) -> RegistryState:
        """As ``rollback``, for a version that cannot be put to work: pinned or not, and only while it is active."""
        with self._changing() as state:
            if number != state.active or number == FACTORY:
                return state
            target = self._last_good(state)
            back = state.back_at(target).model_copy(update={"pinned": False})
            return self._commit(back, "given_up", by, why, {"from": number, "version": target})

    def pin(self, by: str, why: str, number: int | None = None) -> RegistryState:
        """Run that version (default: the active one) and no other until ``unpin``. Raises as ``activate``."""
        with self._changing() as state:
            chosen = state.active if number is None else number
            if chosen != state.active:
                _require_free(state)
                self._require_whole(chosen, state)
            after = state.running(chosen).model_copy(update={"pinned": True})
            return self._commit(after, "pinned", by, why, {"version": chosen})

    def unpin(self, by: str, why: str) -> RegistryState:
        """Raises RobinError DISK_FULL, MODELS_BUSY."""
        with self._changing() as state:
            return self._commit(state.model_copy(update={"pinned": False}), "unpinned", by, why)

    def prune(self, budget_bytes: int, by: str) -> tuple[int, ...]:
        """Remove versions, the oldest first, until all take at most ``budget_bytes``; never the active one, which is
        the pinned one too, nor the one before it. Returns those that went."""
        gone: list[int] = []
        with self._changing() as state:
            for version in sorted(state.versions, key=lambda v: v.number):
                if sum(v.size_bytes for v in state.versions) <= budget_bytes:
                    break
                if version.number in state.kept:
                    continue
                told = {"version": version.number, "size_bytes": version.size_bytes}
                state = self._commit(state.without(version.number), "pruned", by, "over the budget", told)
                self._remove(self._place(version))
                gone.append(version.number)
        return tuple(gone)

    # Everything below is done with the lock held, but for _known_state.

    @contextlib.contextmanager
    def _changing(self) -> Iterator[RegistryState]:
        if not self.folder.is_dir():
            make_folder(self.folder)
            self._files.sync_folder(self.folder.parent)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder, _WAIT_S))
            except RobinError as exc:
                raise RobinError(Code.MODELS_BUSY, exc.text) from None
            yield self._recovered()

    def _known_state(self) -> tuple[RegistryState, RobinError | None]:
        """(state, what is wrong with its file)."""
        try:
            state = read_state(self.folder)
        except RobinError as exc:
            return self._told_state(), exc
        told = RegistryState() if state is not None else self._told_state()
        if state is None and told != RegistryState():
            gone = RobinError(Code.MODELS_DAMAGED, f"{self.folder / STATE_FILE}: is not there, while versions are")
            return told, gone
        return state or told, None

    def _told_state(self) -> RegistryState:
        """As the newest entry of the journal tells it; where nothing does, the factory's model runs, and the versions
        that are found whole are kept."""
        for entry in reversed(self._journal.read().entries):
            with contextlib.suppress(RobinError):
                return parse_state({**entry.state, "chain": entry.digest}, "journal")
        found = []
        for place in sorted((self.folder / VERSIONS).glob("[0-9]*")):
            with contextlib.suppress(RobinError, ValueError):
                found.append(self._described(load_bundle(place), int(place.name)))
        return RegistryState(versions=tuple(found), next_number=max((v.number for v in found), default=0) + 1)

    def _recovered(self) -> RegistryState:
        """The state, after what a crash or damage left is put right and told."""
        state, damage = self._known_state()
        tail = self._journal.read(last_file=True)
        if not tail.entries and not tail.last_damaged:
            tail = replace(self._journal.read(), torn=tail.torn)
        newest = tail.entries[-1].sequence if tail.entries else 0
        told = []
        if damage is not None:
            aside = set_aside(self.folder / STATE_FILE)
            told.append(("state_damaged", f"{damage.text}; {aside}; what runs is taken from the journal"))
        if tail.torn is not None:
            self._journal.cut(tail.torn)
            told.append(("journal_cut", "a last line that was cut short was removed"))
        if tail.last_damaged or newest < state.sequence:
            self._journal.begin_file(state.sequence + 1)
            why = tail.problem.text if tail.problem else f"it ends before entry {state.sequence}"
            told.append(("journal_damaged", f"{why}; a new file is begun"))
        elif newest > state.sequence:
            last = tail.entries[-1]
            state = state.model_copy(update={"sequence": last.sequence, "chain": last.digest})
            told.append(("interrupted", f"entry {newest} ({last.event}) did not take effect: its process ended"))
        for event, why in told:
            state = self._commit(state, event, "registry", why)
        self._clear(state)
        return state

    def _commit(
        self, after: RegistryState, event: str, by: str, why: str, data: Mapping[str, Any] | None = None
    ) -> RegistryState:
        """First the journal, then the state; both are on the disk when this returns."""
        after = after.model_copy(update={"sequence": after.sequence + 1})
        told = after.model_dump(mode="json", exclude={"chain"})
        at = stamp(self._clock())
        entry = signed(Entry(after.sequence, event, by, why, at, told, dict(data or {}), before=after.chain))
        self._journal.append(entry)
        after = after.model_copy(update={"chain": entry.digest})
        self._replace(self.folder / STATE_FILE, state_bytes(after))
        return after

    def _replace(self, path: Path, data: bytes) -> None:
        aside = path.with_name(f".{path.name}.tmp")
        try:
            self._files.write(aside, data)
            self._files.sync(aside)
            self._files.rename(aside, path)
            self._files.sync_folder(path.parent)
        except OSError as exc:
            raise write_error(path, exc) from None

    def _described(self, bundle: Bundle, number: int) -> Version:
        sizes = [path.stat().st_size for path in bundle.directory.iterdir() if path.is_file()]
        return Version(
            number=number,
            model_id=bundle.model_id,
            digest=manifest_digest(bundle.directory),
            network=bundle.manifest.files[NETWORK_FILE],
            factory=manifest_digest(self.factory),
            size_bytes=sum(sizes),
        )

    def _copy(self, bundle: Bundle, number: int) -> None:
        """The bundle's files, verified once more where they were written."""
        place = self._numbered(number)
        aside = place.with_name(_INCOMING)
        try:
            self._files.make_folder(place.parent)
            self._files.sync_folder(self.folder)
            self._files.make_folder(aside)
            for name in (*sorted(bundle.manifest.files), MANIFEST_FILE, CARD_FILE):
                self._files.write(aside / name, _content(bundle.directory / name))
                self._files.sync(aside / name)
            self._files.sync_folder(aside)
            load_bundle(aside)
            self._files.rename(aside, place)
            self._files.sync_folder(place.parent)
        except (OSError, RobinError) as exc:
            shutil.rmtree(aside, ignore_errors=True)
            raise write_error(place, exc) if isinstance(exc, OSError) else exc from None

    def _remove(self, place: Path) -> None:
        """What cannot be removed now is, by the next writer."""
        going = place.with_name(_GOING)
        with contextlib.suppress(OSError):
            self._files.rename(place, going)
            shutil.rmtree(going)

    def _clear(self, state: RegistryState) -> None:
        """Remove what no version of ``state`` is: copies that were not finished, versions that went."""
        known = {self._place(version) for version in state.versions}
        folder = self.folder / VERSIONS
        for left in set(folder.iterdir() if folder.is_dir() else ()) - known:
            shutil.rmtree(left, ignore_errors=True)

    def _last_good(self, state: RegistryState) -> int:
        for number in state.earlier:
            with contextlib.suppress(RobinError):
                self._require_whole(number, state)
                return number
        return FACTORY

    def _require_whole(self, number: int, state: RegistryState) -> None:
        """Every hash, in a tenth of the time of ``load_version``: the graph was looked at when it was added."""
        if number == FACTORY:
            return
        place = self._place(state.version(number))
        try:
            if manifest_digest(place) != state.version(number).digest:
                raise RobinError(Code.VERSION_DAMAGED, f"{place / MANIFEST_FILE}: is not the one that was added")
            for name, digest in read_manifest(place).files.items():
                if hashlib.sha256(_content(place / name)).hexdigest() != digest:
                    raise RobinError(Code.VERSION_DAMAGED, f"{place / name}: is not the one that was added")
        except RobinError as exc:
            raise RobinError(Code.VERSION_DAMAGED, f"version {number}: {exc.text}") from None

    def _place(self, version: Version) -> Path:
        return self._numbered(version.number)

    def _numbered(self, number: int) -> Path:
        return self.folder / VERSIONS / f"{number:06d}"


def manifest_digest(bundle: Path) -> str:
    """sha256 (hex) of a bundle's manifest, which holds those of its files. Raises RobinError MODEL_MISSING."""
    return hashlib.sha256(_content(bundle / MANIFEST_FILE)).hexdigest()


def _content(path: Path) -> bytes:
    """Empty for a card that is not there; nothing depends on it."""
    try:
        return read_plain_bytes(path, MODEL_BYTES)
    except RobinError as exc:
        if path.name == CARD_FILE:
            return b""
        raise RobinError(Code.MODEL_MISSING, exc.text) from None


def _require_free(state: RegistryState) -> None:
    if state.pinned:
        text = f"version {state.active} is pinned; robin adapt unpin lets others run"
        raise RobinError(Code.VERSION_PINNED, text)
