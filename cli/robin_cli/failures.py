"""From whatever ended a command to its numbered line and exit status."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import typer

from robin_perception.core.disk import FULL
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.last_resort import EXIT_BUG, internal_error

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

_BAD_INPUT = frozenset({Code.MODEL_MISSING, Code.MODEL_HASH_MISMATCH, Code.MODEL_TENSOR_MISSING}) | {
    Code.MODEL_MANIFEST_INVALID,
    Code.ENGINE_UNKNOWN,
    Code.RECORD_INVALID,
    Code.BAG_INVALID,
    Code.BAG_TOPIC_MISSING,
    Code.HELP_NOT_OPEN,
    Code.HELP_ANSWER_INVALID,
    Code.STORE_MISSING,
    Code.ANNOTATION_INVALID,
    Code.TAUGHT_TOO_LITTLE,
    Code.VERSION_UNKNOWN,
    Code.FLEET_MISSING,
    Code.RELEASE_KEY_INVALID,
    Code.RELEASE_INVALID,
    Code.RELEASE_UNKNOWN,
    Code.RELEASE_ROOT_INVALID,
    Code.ROLLOUT_UNKNOWN,
    Code.ROLLOUT_STATE,
    Code.CORRELATE_UNKNOWN,
    Code.NOVELTY_UNKNOWN,
    Code.ANNOTATION_FOREIGN,
    Code.DECK_UNKNOWN,
    Code.DECK_EMPTY,
    Code.TRAINING_UNKNOWN,
    Code.TRAINING_REFUSED,
}
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ETXTBSY})
_UNREADABLE = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.ESTALE, errno.ENXIO})
_ROOMS = frozenset(
    {
        "robin_perception",
        "robin_grasp",
        "edge_adapt",
        "robin_fleet",
        "robin_view",
        "robin_sim",
        "robin_cli",
        "robin_bringup",
    }
)


def exit_status(code: Code) -> int:
    """2 for what the caller gave (files, options, configuration, bundles, records), 70 for a bug, 1 for what failed."""
    if code is Code.INTERNAL_ERROR:
        return EXIT_BUG
    return EXIT_BAD_INPUT if int(code) // 100 in (1, 4) or code in _BAD_INPUT else EXIT_FAILURE


def reason_of(exc: Exception, command: Sequence[str]) -> RobinError:
    """The numbered line of any exception. command: what was run. One that nobody expected is INTERNAL_ERROR, and its
    traceback is saved."""
    if isinstance(exc, RobinError):
        return exc
    if isinstance(exc, typer.TyperException):
        return RobinError(Code.OPTION_INVALID, _usage_text(exc))
    known = None
    if isinstance(exc, OSError):
        known = _of_the_system(exc)
    elif isinstance(exc, ImportError):
        known = _of_a_library(exc)
    return known or internal_error(exc, command)


def drop_stdout() -> None:
    """What is still to be printed goes nowhere, so that the interpreter does not stumble over it at its end."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def _usage_text(exc: typer.TyperException) -> str:
    context = getattr(exc, "ctx", None)
    path = getattr(context, "command_path", "robin")
    return f"{exc.format_message().rstrip('.')} (see {path} --help)"


def _of_the_system(exc: OSError) -> RobinError | None:
    """What files, rights and disks do to a command; anything else is a bug."""
    if exc.errno in FULL:
        where = exc.filename or "a file or standard output"
        return RobinError(Code.DISK_FULL, f"{where}: cannot write: {exc.strerror}")
    if exc.filename and exc.errno in _REFUSED:
        return RobinError(Code.OPTION_INVALID, f"{exc.filename}: {exc.strerror}")
    if exc.filename and exc.errno in _UNREADABLE:
        return RobinError(Code.INPUT_UNREADABLE, f"{exc.filename}: {exc.strerror}")
    if isinstance(exc, FileNotFoundError) and not _folder_is_there():
        return RobinError(Code.INPUT_MISSING, "the current folder was deleted; change to another one")
    return None


def _folder_is_there() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _of_a_library(exc: ImportError) -> RobinError | None:
    """A library that is missing, or lacks a library of the system; a module of our own that is missing is a bug."""
    name = (exc.name or "").split(".")[0]
    if name in _ROOMS:
        return None
    if name == "robin_msgs":
        return RobinError(Code.DEPENDENCY_MISSING, f"{exc}: build the workspace: make ros")
    if isinstance(exc, ModuleNotFoundError):
        return RobinError(Code.DEPENDENCY_MISSING, f"{name} is not installed: make setup (see robin doctor)")
    said = " ".join(str(exc).split())
    return RobinError(Code.DEPENDENCY_MISSING, f"{said}: sh scripts/system_packages.sh (see robin doctor)")
