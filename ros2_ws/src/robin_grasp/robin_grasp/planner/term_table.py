"""Score terms as a plan's message carries them: every name once, and per candidate indices and values.

A plan has hundreds of terms with some thirty names between them; a message and a string for each of them cost more than
all the rest of the plan.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence


class TermTable:
    """Collects the names of one plan's terms while its candidates are taken apart."""

    def __init__(self) -> None:
        self._indices: dict[str, int] = {}
        self._known: dict[tuple[str, ...], array[int]] = {}  # candidates of a plan mostly have the same terms

    @property
    def names(self) -> list[str]:
        """The names so far, in the order of the indices."""
        return list(self._indices)

    def split(self, terms: Mapping[str, float]) -> tuple[array[int], array[float]]:
        """Indices, uint16, and values, float64, in the order of ``terms``. The indices are not to be changed."""
        key = tuple(terms)
        indices = self._known.get(key)
        if indices is None:
            indices = array("H", [self._indices.setdefault(name, len(self._indices)) for name in key])
            self._known[key] = indices
        return indices, array("d", terms.values())


def named_terms(names: Sequence[str], indices: Iterable[int], values: Iterable[float]) -> dict[str, float]:
    """What ``split`` took apart. Raises ValueError where names are missing, or indices and values differ in number."""
    try:
        return {names[index]: float(value) for index, value in zip(indices, values, strict=True)}
    except IndexError:
        raise ValueError(f"a score term names entry {max(indices)} of {len(names)}") from None
