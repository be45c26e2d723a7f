"""The TUF repository of a fleet (https://theupdateframework.github.io/specification): metadata and files as a folder
that any web server may serve.

root and targets are signed by keys that are kept elsewhere: what they are to say is staged first, and published once
enough of them have signed (``sign``). snapshot, timestamp and what each site's robots are to run are signed here.
Everything is written before the timestamp that names it, so that a robot never sees half of a change.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edge_adapt.releases.release import (
    Assignments,
    Release,
    assignments_path,
    parse_assignments,
    parse_release,
    release_path,
)
from robin_fleet.release.keys import new_key, read_key, read_keys, require_apart
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import plain_id
from robin_perception.core.output import locked

FOLDER, KEYS = "releases", "release-keys"
NEXT = ".next.pem"
"""Ending of a key that takes its role's place once that is signed."""
OFFLINE = ("root", "targets")
DAYS = {"root": 365.0, "targets": 365.0, "site": 30.0, "snapshot": 7.0, "timestamp": 2.0}
"""Until what each role says expires; robots go on with what they have, and take nothing new."""
_METADATA_BYTES = 5_000_000
_WAIT_S = 30.0


@dataclass(frozen=True)
class Staged:
    """A role whose next version waits for signatures."""

    role: str
    version: int
    signed: int
    threshold: int

    @property
    def complete(self) -> bool:
        return self.signed >= self.threshold


class ReleaseRepository:
    """Below ``fleet``: ``releases/metadata``, ``releases/targets``, ``releases/staged``, and ``release-keys``.
    clock: seconds UTC. One writer at a time: each change holds a lock."""

    def __init__(self, fleet: Path, clock: Callable[[], float] = time.time) -> None:
        self.fleet, self.folder = fleet, fleet / FOLDER
        self.metadata, self.targets, self.staged = (self.folder / n for n in ("metadata", "targets", "staged"))
        self._clock = clock

    def init(self, offline: Path, sites: tuple[str, ...], keys: int = 3, threshold: int = 2) -> bytes:
        """Make keys and the first metadata; returns the trusted root for the robots. offline: a new folder outside the
        fleet's, for the keys of root and targets. Raises RobinError RELEASE_KEY_INVALID, OPTION_INVALID."""
        require_apart(offline, self.fleet)
        if not 1 <= threshold <= keys:
            raise RobinError(Code.OPTION_INVALID, f"threshold {threshold}: 1 to {keys}, the number of root keys")
        if (self.metadata / "1.root.json").exists():
            raise RobinError(Code.OPTION_INVALID, f"{self.folder}: a repository is there already")
        root_keys = [new_key(offline / f"root-{n}.pem") for n in range(1, keys + 1)]
        targets_key = new_key(offline / "targets.pem")
        for folder in (self.metadata, self.targets, self.staged):
            make_folder(folder)
        with self._changing():
            root = Root(expires=self._expiry("root"), consistent_snapshot=True)
            for signer in root_keys:
                root.add_key(signer.public_key, Root.type)
            root.roles[Root.type].threshold = threshold
            root.add_key(targets_key.public_key, Targets.type)
            for role in (Snapshot.type, Timestamp.type):
                root.add_key(new_key(self._online(role)).public_key, role)
            targets = Targets(expires=self._expiry("targets"))
            for site in sites:
                self._delegate(targets, site)
            self._stage("root", Metadata(root))
            self._stage("targets", Metadata(targets))
            self._sign_staged([*root_keys, targets_key])
            for site in sites:
                self._publish_site(site, Assignments())
            self._refresh()
        return (self.metadata / "1.root.json").read_bytes()

    def add_site(self, site: str) -> None:
        """Stage a delegation to a new site; its robots can be assigned to once it is signed."""
        with self._changing():
            targets = self._next("targets", Targets)
            self._delegate(targets, site)
            self._stage("targets", Metadata(targets))

    def add(self, release: Release, files: Mapping[str, bytes]) -> None:
        """Stage a release. files: content by target path, of its parts. Raises RobinError RELEASE_INVALID for a release
        or a part's version that is there with other content."""
        path = release_path(release.name)
        coming = {**files, path: (release.model_dump_json(indent=1) + "\n").encode()}
        with self._changing():
            targets = self._next("targets", Targets)
            for name, data in coming.items():
                target = TargetFile.from_data(name, data, ["sha256"])
                known = targets.targets.get(name)
                if known is not None and known.hashes != target.hashes:
                    raise RobinError(Code.RELEASE_INVALID, f"{name}: is there with other content; use a new version")
                self._write_target(target, data)
                targets.targets[name] = target
            self._stage("targets", Metadata(targets))

    def renew(self, role: str) -> None:
        """Stage root or targets with a later expiry."""
        kind: type[Root] | type[Targets] = Root if role == "root" else Targets
        with self._changing():
            self._stage(role, Metadata(self._next(role, kind)))

    def exchange(self, role: str, offline: Path | None = None, drop: str = "") -> str:
        """Stage a new key of a role, which counts once that is signed; returns its id.

        offline: a folder for it, for root and targets; others' keys are kept here. drop: id of a root key that is to
        count no more. Raises RobinError RELEASE_KEY_INVALID, RELEASE_UNKNOWN for no such role or key.
        """
        if (offline is None) == (role in OFFLINE):
            raise RobinError(Code.RELEASE_KEY_INVALID, f"{role}: a folder is needed for root's and targets' keys alone")
        if offline is not None:
            require_apart(offline, self.fleet)
        with self._changing():
            site = role.removeprefix("site-") if role not in DAYS else ""
            if site and site not in self.sites():
                raise RobinError(Code.RELEASE_UNKNOWN, f"{role}: no such role; robin fleet release list")
            if drop and (role != "root" or drop not in self.keys_of("root")):
                raise RobinError(Code.RELEASE_UNKNOWN, f"key {drop}: root has none of that id")
            above = self._next("targets", Targets) if site else self._next("root", Root)
            place = self._online(role).with_suffix(NEXT) if offline is None else offline / f"{role}-{above.version}.pem"
            signer = new_key(place)
            known = above.delegations.roles[role].keyids if site else above.roles[role].keyids
            for old in [key for key in known if key == drop] if role == "root" else list(known):
                above.revoke_key(old, role)
            above.add_key(signer.public_key, role)
            self._stage("targets" if site else "root", Metadata(above))
            if role == "targets":  # what the old key has signed is signed anew
                self._stage("targets", Metadata(self._next("targets", Targets)))
            return signer.public_key.keyid

    def keys_of(self, role: str) -> list[str]:
        """Ids of the keys of root or targets that count."""
        return list(self._current("root", Root).signed.roles[role].keyids)

    def sign(self, offline: Path) -> list[Staged]:
        """Sign what is staged with the keys of a folder, and publish what has enough signatures."""
        signers = read_keys(offline)
        with self._changing():
            done = self._sign_staged(signers)
            if any(one.complete for one in done):
                self._refresh()
        return done

    def refresh(self) -> None:
        """Sign snapshot and timestamp anew, so that what is published stays fresh; to be done once a day at least."""
        with self._changing():
            self._refresh()

    def assign(self, site: str, assignments: Assignments) -> None:
        """Publish what a site's robots are to run. Raises RobinError RELEASE_UNKNOWN for a site without delegation."""
        with self._changing():
            if site not in self.sites():
                raise RobinError(Code.RELEASE_UNKNOWN, f"site {site}: unknown here; robin fleet release site {site}")
            self._publish_site(site, assignments)
            self._refresh()

    def releases(self) -> list[Release]:
        """Those that are published, by name. Raises RobinError RELEASE_INVALID."""
        targets = self._current("targets", Targets).signed.targets
        paths = sorted(path for path in targets if path.startswith("releases/"))
        return [parse_release(self._target_bytes(targets[path]), path) for path in paths]

    def sites(self) -> list[str]:
        """Those whose robots can be assigned to."""
        delegations = self._current("targets", Targets).signed.delegations
        roles = (delegations.roles if delegations is not None else None) or {}
        return sorted(role.removeprefix("site-") for role in roles)

    def assignments(self, site: str) -> Assignments:
        """As they are published."""
        path = assignments_path(site)
        target = self._current(_role(site), Targets).signed.targets[path]
        return parse_assignments(self._target_bytes(target), path)

    def waiting(self) -> list[Staged]:
        """What waits for signatures."""
        paths = [self.staged / f"{role}.json" for role in ("root", "targets")]
        return [self._counted(path.stem, _read(path)) for path in paths if path.exists()]

    def expiries(self) -> dict[str, float]:
        """Seconds UTC at which each role's word expires."""
        found = {}
        for role, kind in (("root", Root), ("targets", Targets), ("snapshot", Snapshot), ("timestamp", Timestamp)):
            found[role] = self._current(role, kind).signed.expires.timestamp()
        return found

    # Everything below is done with the lock held, but for reading.

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        if not self.metadata.is_dir():
            raise RobinError(Code.RELEASE_INVALID, f"{self.folder}: no repository; robin fleet release init makes one")
        with locked(self.folder, _WAIT_S):
            yield

    def _delegate(self, targets: Targets, site: str) -> None:
        plain_id(site, "site", 64)
        if targets.delegations is None:
            targets.delegations = Delegations(keys={}, roles={})
        assert targets.delegations.roles is not None
        if _role(site) in targets.delegations.roles:
            raise RobinError(Code.OPTION_INVALID, f"site {site}: is there already")
        paths = [f"sites/{site}/*"]
        targets.delegations.roles[_role(site)] = DelegatedRole(_role(site), [], 1, True, paths)
        targets.add_key(new_key(self._online(_role(site))).public_key, _role(site))

    def _stage(self, role: str, metadata: Metadata[Any]) -> None:
        write_atomic(self.staged / f"{role}.json", metadata.to_bytes())

    def _next(self, role: str, kind: type[Any]) -> Any:
        """What the role is to say next: what is staged already, else what is published with the next number."""
        path = self.staged / f"{role}.json"
        if path.exists():
            signed = _read(path).signed
        else:
            signed = self._current(role, kind).signed
            signed.version += 1
        signed.expires = self._expiry(role)
        return signed

    def _sign_staged(self, signers: list[CryptoSigner]) -> list[Staged]:
        done = []
        for role in ("root", "targets"):
            path = self.staged / f"{role}.json"
            if not path.exists():
                continue
            metadata = _read(path)
            allowed = self._keyids(role, metadata)
            for signer in signers:
                if signer.public_key.keyid in allowed:
                    metadata.sign(signer, append=True)
            counted = self._counted(role, metadata)
            if counted.complete:
                self._publish(role, metadata)
                path.unlink()
                self._take_over(role)
            else:
                write_atomic(path, metadata.to_bytes())
            done.append(counted)
        return done

    def _take_over(self, role: str) -> None:
        """Keys that count from now on take their place; a site's word is signed anew by its new one."""
        for path in (self.fleet / KEYS).glob(f"*{NEXT}"):
            name = path.name.removesuffix(NEXT)
            if (role == "targets") == name.startswith("site-"):
                path.replace(self._online(name))
                if role == "targets":
                    site = name.removeprefix("site-")
                    self._publish_site(site, self.assignments(site))

    def _counted(self, role: str, metadata: Metadata[Any]) -> Staged:
        """A root is signed by its own keys, and by those of the root before."""
        payload, signatures, version = metadata.signed_bytes, metadata.signatures, metadata.signed.version
        if role != "root":
            result = self._current("root", Root).signed.get_verification_result(role, payload, signatures)
            return Staged(role, version, len(result.signed), result.threshold)
        both = metadata.signed.get_root_verification_result(self._root_before(), payload, signatures)
        missing = max(max(0, one.threshold - len(one.signed)) for one in (both.first, both.second))
        return Staged(role, version, both.second.threshold - missing, both.second.threshold)

    def _keyids(self, role: str, metadata: Metadata[Any]) -> set[str]:
        before = self._root_before()
        roots = [one for one in (metadata.signed if role == "root" else None, before) if one is not None]
        return {key for root in roots for key in root.roles[role].keyids}

    def _root_before(self) -> Root | None:
        """The one that is published; None before the first."""
        return self._current("root", Root).signed if self._newest("root") else None

    def _publish(self, role: str, metadata: Metadata[Any]) -> None:
        write_atomic(self.metadata / f"{metadata.signed.version}.{role}.json", metadata.to_bytes())

    def _publish_site(self, site: str, assignments: Assignments) -> None:
        path, role = assignments_path(site), _role(site)
        data = assignments.model_dump_json().encode()
        target = TargetFile.from_data(path, data, ["sha256"])
        self._write_target(target, data)
        version = self._newest(role)
        signed = Targets(version=version + 1, expires=self._expiry("site"), targets={path: target})
        self._signed_here(role, signed)

    def _refresh(self) -> None:
        """Site roles that are about to expire, snapshot, timestamp; the last one makes all of it visible."""
        meta = {"targets.json": MetaFile(self._newest("targets"))}
        for name in self.sites():
            role = _role(name)
            if not self._newest(role):  # its delegation has just been signed
                self._publish_site(name, Assignments())
            site = self._current(role, Targets).signed
            if site.expires.timestamp() - self._clock() < DAYS["site"] * 43_200:
                site.version, site.expires = site.version + 1, self._expiry("site")
                self._signed_here(role, site)
            meta[f"{role}.json"] = MetaFile(site.version)
        version = self._newest("snapshot") + 1
        self._signed_here("snapshot", Snapshot(version=version, expires=self._expiry("snapshot"), meta=meta))
        known = self.metadata / "timestamp.json"
        number = _read(known).signed.version + 1 if known.exists() else 1
        stamp = Timestamp(version=number, expires=self._expiry("timestamp"), snapshot_meta=MetaFile(version))
        metadata: Metadata[Any] = Metadata(stamp)
        metadata.sign(read_key(self._online("timestamp")))
        write_atomic(known, metadata.to_bytes())

    def _signed_here(self, role: str, signed: Targets | Snapshot) -> None:
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(read_key(self._online(role)))
        self._publish(role, metadata)

    def _current(self, role: str, kind: type[Any]) -> Metadata[Any]:
        name = "timestamp.json" if role == "timestamp" else f"{self._newest(role)}.{role}.json"
        found = _read(self.metadata / name)
        if not isinstance(found.signed, kind):
            raise RobinError(Code.RELEASE_INVALID, f"{self.metadata / name}: says {found.signed.type}")
        return found

    def _newest(self, role: str) -> int:
        """Number of the newest version; 0 for none."""
        found = (path.name.split(".", 1)[0] for path in self.metadata.glob(f"*.{role}.json"))
        return max((int(number) for number in found if number.isdigit()), default=0)

    def _write_target(self, target: TargetFile, data: bytes) -> None:
        path = self._target_path(target)
        make_folder(path.parent)
        write_atomic(path, data)

    def _target_bytes(self, target: TargetFile) -> bytes:
        return read_plain_bytes(self._target_path(target), target.length)

    def _target_path(self, target: TargetFile) -> Path:
        folder, _, name = target.path.rpartition("/")
        return self.targets / folder / f"{target.hashes['sha256']}.{name}"

    def _online(self, role: str) -> Path:
        return self.fleet / KEYS / f"{role}.pem"

    def _expiry(self, role: str) -> datetime:
        return datetime.fromtimestamp(int(self._clock()), timezone.utc) + timedelta(days=DAYS[role])


def _role(site: str) -> str:
    return f"site-{site}"


def _read(path: Path) -> Metadata[Any]:
    try:
        return Metadata.from_bytes(read_plain_bytes(path, _METADATA_BYTES))
    except RobinError as exc:
        raise RobinError(Code.RELEASE_INVALID, exc.text) from None
    except RepositoryError as exc:
        raise RobinError(Code.RELEASE_INVALID, f"{path}: {exc}") from None
