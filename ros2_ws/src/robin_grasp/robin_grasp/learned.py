"""Which state of something that is learned from picks was used: for records, so that each can be told apart."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LearnedState:
    """picks: that it had been learned from. digest: sha256 (hex) of what was learned, as its file holds it; empty:
    nobody learns."""

    picks: int = 0
    digest: str = ""

    @classmethod
    def of(cls, picks: int, content: Any) -> LearnedState:
        """content: JSON values."""
        return cls(picks, json_digest(content))


NOT_LEARNED = LearnedState()


def json_digest(content: Any) -> str:
    """sha256 (hex) of JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
