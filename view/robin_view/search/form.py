"""What a person asks for, from the address: everything has a bound, what is no such thing is refused with its name."""

from __future__ import annotations

from datetime import datetime, timezone

from starlette.datastructures import QueryParams

from robin_perception.core.errors import Code, RobinError
from robin_view.archive.index import FIGURES, ORDERS, WORDS, Query

MOST_WORDS = 64
LONGEST = 200
PER_PAGE = 48


def query_of(given: QueryParams) -> Query:
    """Raises RobinError OPTION_INVALID."""
    words = {name: _many(given, name) for name in WORDS}
    ranges = {name: (_number(given, f"{name}_min"), _number(given, f"{name}_max")) for name in FIGURES}
    order = given.get("order") or "newest"
    if order not in ORDERS:
        raise _refused("order", order, "one of the list")
    codes = tuple(_whole("code", text, 65_535) for text in _many(given, "code"))
    return Query(
        words=words,
        tags=_many(given, "tag"),
        codes=codes,
        ranges={name: pair for name, pair in ranges.items() if pair != (None, None)},
        since_s=_moment(given, "since"),
        until_s=_moment(given, "until"),
        text=given.get("q", "")[:LONGEST],
        order=order,
    )


def page_of(given: QueryParams) -> int:
    """From 0 on."""
    return _whole("page", given.get("page") or "0", 1_000_000)


def _many(given: QueryParams, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text[:LONGEST] for text in given.getlist(name) if text))[:MOST_WORDS]


def _number(given: QueryParams, name: str) -> float | None:
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        return float(text[:40])
    except ValueError:
        raise _refused(name, text, "a number") from None


def _whole(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most):
        raise _refused(name, text, f"a whole number up to {most}")
    return int(text)


def _moment(given: QueryParams, name: str) -> float | None:
    """Seconds since 1970; UTC where no zone is named."""
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text[:40])
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise _refused(name, text, "a time as 2026-05-04T10:30") from None


def _refused(name: str, text: str, needed: str) -> RobinError:
    return RobinError(Code.OPTION_INVALID, f"{name} '{text[:60]}': {needed} is needed")
