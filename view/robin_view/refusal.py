"""Numbered failures as answers of HTTP."""

from __future__ import annotations

from robin_perception.core.errors import Code, RobinError

_STATUS = {
    Code.VIEW_HOST_FOREIGN: 400,
    Code.VIEW_ORIGIN_FOREIGN: 403,
    Code.VIEW_LOGIN_NEEDED: 401,
    Code.VIEW_TOKEN_WRONG: 403,
    Code.VIEW_READ_ONLY: 403,
    Code.VIEW_UNKNOWN: 404,
    Code.VIEW_BUSY: 503,
    Code.INPUT_MISSING: 404,
    Code.HELP_NOT_OPEN: 409,
    Code.HELP_ANSWER_INVALID: 400,
    Code.ANNOTATION_INVALID: 400,
    Code.ANNOTATION_STALE: 409,
    Code.ID_INVALID: 404,
    Code.NOVELTY_UNKNOWN: 404,
    Code.VERSION_UNKNOWN: 404,
    Code.VERSION_PINNED: 409,
    Code.ROLLOUT_UNKNOWN: 404,
    Code.ROLLOUT_STATE: 409,
}


def status_of(code: Code) -> int:
    """4xx for what was asked, 500 for a bug or a failure of this machine."""
    return _STATUS.get(code, 400 if int(code) // 100 in (1, 4) else 500)


def unknown(what: str, name: str) -> RobinError:
    """There is nothing of that name. what: "decision", "page"."""
    return RobinError(Code.VIEW_UNKNOWN, f"there is no {what} '{name[:128]}' here")
