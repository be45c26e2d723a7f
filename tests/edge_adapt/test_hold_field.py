"""P(clean) over looks: what alike goods showed is expected of goods that were never picked, and fades."""

from __future__ import annotations

import numpy as np
import pytest

from edge_adapt.learn.hold_field import MOST_PICKS, PRIOR_SD, FieldPick, HoldField
from robin_perception.novelty.appearance import SIZE


def look(kind: int, seed: int = 0, spread: float = 0.15) -> np.ndarray:
    """Looks of one kind differ a little, those of two kinds a lot; of any length."""
    base = np.zeros(SIZE, np.float32)
    base[20 * kind : 20 * kind + 20] = 1 / np.sqrt(20)
    noise = np.random.default_rng([kind, seed]).normal(size=SIZE).astype(np.float32)
    return 3.9 * (base + spread * noise / np.linalg.norm(noise))


def taught(*picks: tuple[np.ndarray, bool], half_life: float = 400.0) -> HoldField:
    field = HoldField(half_life)
    for number, (seen, clean) in enumerate(picks, start=1):
        field.note(seen, 0.95, clean, number)
    return field


def change(field: HoldField, seen: np.ndarray, at: int = 10) -> tuple[float, float, float]:
    mean, sd, tries = field.change(seen[None], at)
    return float(mean[0]), float(sd[0]), float(tries[0])


def test_who_knows_nothing_changes_nothing() -> None:
    assert change(taught(), look(0)) == (0.0, PRIOR_SD, 0.0)


def test_a_new_look_that_is_like_others_that_failed_is_expected_to_fail() -> None:
    field = taught(*((look(0, seed), False) for seed in range(5)), *((look(1, seed), True) for seed in range(5)))
    mean, sd, tries = change(field, look(0, 99))
    assert mean < -0.7 and sd < 0.3 and tries > 4
    assert abs(change(field, look(1, 99))[0]) < 0.1
    far = change(field, look(5))
    assert abs(far[0]) < 0.05 and far[1] > 0.45 and far[2] < 0.5


def test_what_goods_show_now_outweighs_what_they_showed_long_ago() -> None:
    failed = [(look(0, seed), False) for seed in range(6)]
    held = [(look(0, seed), True) for seed in range(6, 12)]
    slow, quick = taught(*failed, *held, half_life=1e6), taught(*failed, *held, half_life=2.0)
    assert change(quick, look(0, 50), 12)[0] > change(slow, look(0, 50), 12)[0] + 0.2
    assert change(quick, look(0, 50), 40)[2] < 0.1


def test_the_oldest_picks_go() -> None:
    field = taught(*((look(seed % 3, seed), True) for seed in range(MOST_PICKS + 5)))
    assert len(field.picks) == MOST_PICKS and field.picks[0].at == 6


def test_what_comes_back_from_the_disk_says_the_same() -> None:
    field, again = taught((look(0), False), (look(1), True)), HoldField(400.0)
    again.picks = [FieldPick.from_json(pick.to_json()) for pick in field.picks]
    assert change(again, look(0, 3)) == change(field, look(0, 3))


@pytest.mark.parametrize("change_to", [{"seen": "AAAA"}, {"seen": "?"}, {"surprise": 3.0}, {"at": "x"}])
def test_what_cannot_be_a_pick_is_refused(change_to: dict[str, object]) -> None:
    good = taught((look(0), False)).picks[0].to_json()
    with pytest.raises((KeyError, TypeError, ValueError)):
        FieldPick.from_json(good | change_to)
