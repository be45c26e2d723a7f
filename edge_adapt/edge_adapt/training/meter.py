"""What a training run says of itself: means of the terms, pace, time left."""

from __future__ import annotations

import time
from typing import Any

import numpy as np


class Meter:
    """Means of the terms and the pace since the last report."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.terms: list[dict[str, float]] = []
        self.since = time.monotonic()

    def add(self, terms: dict[str, float]) -> None:
        self.terms.append(terms)

    def report(self, seconds: float, scenes: int) -> dict[str, Any]:
        names = self.terms[-1].keys()
        means = {name: float(np.mean([t.get(name, 0.0) for t in self.terms])) for name in names}
        pace = self.batch * len(self.terms) / max(1e-9, time.monotonic() - self.since)
        self.terms, self.since = [], time.monotonic()
        return {**means, "images_per_s": pace, "scenes": scenes}

    @staticmethod
    def line(steps: int, seconds: float, share: float, record: dict[str, Any]) -> str:
        left = seconds * (1 - share) / max(share, 1e-6) / 60
        hidden = ("images_per_s", "scenes", "rate", "norm")
        terms = " ".join(f"{k} {v:.3f}" for k, v in record.items() if k not in hidden)
        return (
            f"step {steps} {100 * share:.1f}% {terms} | {record['images_per_s']:.1f} images/s, "
            f"rate {record['rate']:.2e}, {record['scenes']} scenes, {left:.1f} min left"
        )
