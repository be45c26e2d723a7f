"""Keys of the repository as files that only their owner can read. Those of root and targets are kept off the fleet's
machine; the others sign what changes by the hour."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder, write_error
from robin_perception.core.errors import Code, RobinError

_KEY_BYTES = 10_000


def new_key(path: Path) -> CryptoSigner:
    """A new Ed25519 key at ``path``, mode 0600, which must not be there yet. Raises RobinError RELEASE_KEY_INVALID,
    DISK_FULL."""
    make_folder(path.parent)
    signer = CryptoSigner.generate_ed25519()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(signer.private_bytes)
            stream.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise RobinError(Code.RELEASE_KEY_INVALID, f"{path}: a key is there already") from None
    except OSError as exc:
        raise write_error(path, exc) from None
    return signer


def read_key(path: Path) -> CryptoSigner:
    """Raises RobinError RELEASE_KEY_INVALID for one that is missing, damaged, or readable for others."""
    try:
        data = read_plain_bytes(path, _KEY_BYTES)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise RobinError(Code.RELEASE_KEY_INVALID, f"{path}: others can read it; chmod 600 it")
        return CryptoSigner(load_pem_private_key(data, None))  # a wrong kind is a ValueError
    except RobinError as exc:
        raise RobinError(Code.RELEASE_KEY_INVALID, exc.text) from None
    except (ValueError, TypeError) as exc:
        raise RobinError(Code.RELEASE_KEY_INVALID, f"{path}: no private key: {exc}") from None


def read_keys(folder: Path) -> list[CryptoSigner]:
    """All keys of a folder. Raises RobinError RELEASE_KEY_INVALID, also where there is none."""
    found = [read_key(path) for path in sorted(folder.glob("*.pem"))]
    if not found:
        raise RobinError(Code.RELEASE_KEY_INVALID, f"{folder}: no key (*.pem) there")
    return found


def require_apart(offline: Path, fleet: Path) -> None:
    """Raises RobinError RELEASE_KEY_INVALID for a folder of offline keys within the fleet's."""
    if offline.resolve().is_relative_to(fleet.resolve()):
        text = f"{offline}: keys of root and targets must lie outside {fleet}, best on a medium of their own"
        raise RobinError(Code.RELEASE_KEY_INVALID, text)
